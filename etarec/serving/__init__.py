"""A recommender in use: it recommends, is told what happened, and adapts by the code that the search measured.

    recommender = load(Path("runs/demo"))
    recommender.recommend(["user 17", ["item 3", "item 8"]], k=10)    # a known user; the items of somebody else
    recommender.observe(["user 17"], ["item 5"])

`Durable` keeps a recommender's state in a folder; `etarec.serve` offers it by HTTP.
"""

from etarec.serving.catalogue import Recommendation
from etarec.serving.durable import Durable
from etarec.serving.guard import GuardConfig
from etarec.serving.recommender import Learned, Recommender, Told
from etarec.serving.run import ADVISED, BASELINES, Baseline, Run, load, read

__all__ = [
    "ADVISED",
    "BASELINES",
    "Baseline",
    "Durable",
    "GuardConfig",
    "Learned",
    "Recommendation",
    "Recommender",
    "Run",
    "Told",
    "load",
    "read",
]
