"""(g) Trials per minute on one GPU, and its share of peak."""

import time
from dataclasses import replace

import torch

from etarec.config import AdaptConfig
from search import runner
from search.spec import SearchConfig
from search.trial import Job, Recommender
from tests.benchmarks import material, peak, together
from tests.benchmarks.frame import Cell, Settings, Table

AT_ONCE = (1, 4, 16)


def gpu(settings: Settings) -> Table:
    if not torch.cuda.is_available():
        rows: list[list[Cell]] = [["no GPU was there: nothing was measured", None, None]]
    else:
        device = torch.device("cuda")
        rows = [
            *(_trials(settings, count) for count in AT_ONCE),
            *(_stacked(settings, device, count) for count in AT_ONCE),
            *_shares(settings, device),
        ]
    return Table(
        "(g) On a GPU",
        "Trials of target `weights` behind the default gate on the whole validation stream, in separate processes that "
        "share one device (search.runner with fractional gpus_per_trial); the time counts from warm workers on. "
        "Stacked: the prototype of several configurations in one process, one after another over stacked. Shares of "
        "peak as in (f), in wall seconds.",
        ["", "measured", "unit"],
        rows,
    )


def _trials(settings: Settings, count: int) -> list[Cell]:
    search = SearchConfig(trials=max(count, 4), concurrency=count, gpus_per_trial=1 / count)
    data, checkpoint = material.interactions(settings), material.checkpoint(settings)
    subject = Recommender(data, checkpoint, "position", 0).without_test()
    jobs = [Job(replace(AdaptConfig(), entropy_quantile=0.4 + n / 100), seed=n) for n in range(search.trials)]
    complaints: list[str] = []
    with runner.cluster(search, None) as plan:
        list(runner.measure_all(subject, jobs[:count], plan, complaints.append, on_test=False))
        begin = time.perf_counter()
        measured = list(runner.measure_all(subject, jobs, plan, complaints.append, on_test=False))
        seconds = time.perf_counter() - begin
    if None in measured:
        raise RuntimeError(f"trials failed: {complaints}")
    return [f"{count} at a time", 60 * len(jobs) / seconds, "trials per minute"]


def _stacked(settings: Settings, device: torch.device, count: int) -> list[Cell]:
    subject = together._subject(settings, device)
    together.compare(subject, device, count, repeats=1)
    return [f"{count} stacked", together.compare(subject, device, count, repeats=3)[3], "times as fast"]


def _shares(settings: Settings, device: torch.device) -> list[list[Cell]]:
    rows, _ = peak.measured(settings, device)
    return [[rows[0][0], rows[0][3], "GFLOP/s"], *([row[0], row[4], "of peak"] for row in rows[1:])]
