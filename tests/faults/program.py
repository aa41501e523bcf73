"""The search that is killed, with a formula in place of a recommender.

program.py DIR TRIALS SLEEP ADDRESS|- OBJECTIVE,OBJECTIVE,... new|resume
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from search import experiment
from search.experiment import Experiment
from search.records.states import Ending
from search.spec import Spec, load
from tests.faults.stage import OBJECTIVES

SPACE = {
    "top_k": {"low": 2, "high": 500, "log": True},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}
CONCURRENCY = 2


def spec_of(folder: Path, trials: int, objectives: Sequence[str] = OBJECTIVES) -> Spec:
    search = {"trials": trials, "concurrency": CONCURRENCY, "bootstrap_replicates": 50, "retries": 50}
    search |= {"objectives": list(objectives)}
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump({"name": "faults", "space": SPACE, "search": search, "baselines": ["none", "all"]}))
    return load(file)


def main() -> int:
    from formula import Formula  # in tests/search, which only this process and its workers have on their path

    folder, trials, sleep = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    address, objectives, how = sys.argv[4:]
    joined = None if address == "-" else address
    subject = Formula(sleep=sleep, log=folder / "measured", processes=folder / "processes")
    spec = spec_of(folder, trials, objectives.split(","))
    ran = Experiment(spec, folder / "out", address=joined, resume=how == "resume")
    return 0 if experiment.run(ran, subject, n_items=1000) is Ending.COMPLETE else 130


if __name__ == "__main__":
    sys.exit(main())
