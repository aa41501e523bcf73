"""Measurements after the search, through real Ray: how many at once, in which order, and which are repeated."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from failing import by_the_memory_monitor, folder_of, lines
from formula import Formula
from ray.exceptions import WorkerCrashedError
from timed import Timed, beside, meet, most_at_once, spans

from etarec.config import AdaptConfig
from search.running import measuring
from search.running.measuring import RETRIES, measure_all
from search.running.plan import GIB, Plan
from search.subject import Job

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(autouse=True, scope="module")
def both_up(plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two processes are there before the first measurement, which may be shorter than a start."""
    folder = tmp_path_factory.mktemp("met")
    ray.get([ray.remote(num_cpus=1)(meet).remote(folder, 2) for _ in range(2)])


def jobs_of(*quantiles: float) -> list[Job]:
    return [Job(AdaptConfig(top_k=50, entropy_quantile=quantile), 0) for quantile in quantiles]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_as_many_measurements_run_at_once_as_planned(tmp_path: Path, plan: Plan, concurrency: int) -> None:
    """The cluster has two cores."""
    jobs, times = jobs_of(0.2, 0.3, 0.4, 0.5, 0.6), folder_of(tmp_path, "times")
    planned, warnings = Plan(concurrency, 1, 1, 0), list[str]()
    assert None not in measure_all(Timed(sleep=0.5, times=times), jobs, planned, warnings.append, on_test=False)
    assert sum(map(len, spans(times).values())) == len(jobs) and not warnings
    assert most_at_once(times) == concurrency


def test_the_longest_starts_first_and_results_keep_the_order_of_the_jobs(tmp_path: Path, plan: Plan) -> None:
    configs = [
        AdaptConfig(target="none", entropy_quantile=0.1),
        AdaptConfig(gate="random", random_rate=0.9, entropy_quantile=0.2),
        AdaptConfig(entropy_quantile=0.3),
        AdaptConfig(gate="random", random_rate=0.2, entropy_quantile=0.4),
        AdaptConfig(gate="open", entropy_quantile=0.5),
    ]
    times = folder_of(tmp_path, "times")
    subject, alone, came = Timed(sleep=0.1, times=times), Plan(1, 1, 1, 0), list[bool]()
    jobs = [Job(config, 0) for config in configs]
    results = measure_all(subject, jobs, alone, print, on_test=False, done=lambda: came.append(True))
    measured = [next(results)]
    assert len(came) == len(jobs)  # the first job runs last; the others were counted as they came
    measured += results
    begun = sorted(spans(times), key=lambda quantile: spans(times)[quantile])
    assert begun == ["0.5", "0.4", "0.3", "0.2", "0.1"]
    expected = [Formula().measure(config, "valid", 0).metrics() for config in configs]
    assert [found and found.metrics() for found in measured] == expected


def test_a_job_that_lacks_memory_beside_others_runs_again_alone(tmp_path: Path, plan: Plan) -> None:
    jobs, times, crowd = jobs_of(0.2, 0.6, 0.3, 0.4), folder_of(tmp_path, "times"), folder_of(tmp_path, "crowd")
    subject, warnings = Timed(memory=(0.5, 0.7), crowd=crowd, sleep=0.5, times=times), list[str]()
    assert None not in measure_all(subject, jobs, plan, warnings.append, on_test=False) and not warnings
    first, again = spans(times)["0.6"]
    assert beside(times, first) > 1 and beside(times, again) == 1


def test_no_more_processes_are_started_early_than_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray starts a task again without end where its memory monitor ended it, unless it is told not to."""
    options: list[dict[str, int]] = []

    def remote(**given: int) -> Any:
        options.append(given)
        return lambda function: SimpleNamespace(remote=lambda: None)

    monkeypatch.setattr("ray.remote", remote)
    for gib, expected in ((64, 3), (2, 2), (1, 0)):
        monkeypatch.setattr(measuring, "memory_limits", lambda free=gib * GIB: (64 * GIB, free))
        measuring.start_processes(Plan(3, 1, 1, 0))
        assert len(options) == expected and all(given["max_retries"] == 0 for given in options)
        options.clear()
    measuring.start_processes(Plan(3, 1, 1, 0.5))
    assert not options


def test_jobs_nobody_waits_for_any_more_are_ended(tmp_path: Path, plan: Plan) -> None:
    times = folder_of(tmp_path, "times")
    subject = Timed(sleep=0.5, slow=(0.25, 0.55), slow_for=4.0, times=times)
    results = measure_all(subject, jobs_of(0.2, 0.3, 0.4, 0.5), plan, print, on_test=False)
    assert next(results) is not None
    results.close()  # type: ignore[attr-defined]
    time.sleep(6)
    ended = set(spans(times))
    assert ended <= {"0.2", "0.4"}  # 0.4 began at the moment of the end, when Ray may miss the order to cancel


def test_measurements_after_the_search_survive_a_killed_worker_and_a_full_memory(tmp_path: Path, plan: Plan) -> None:
    once, crowd = folder_of(tmp_path, "once"), folder_of(tmp_path, "crowd")
    jobs = jobs_of(0.2, 0.4, 0.6, 0.8)
    subject = Formula(kills=(0.3, 0.5), once=once, memory=(0.5, 0.7), crowd=crowd, sleep=0.3)
    warnings: list[str] = []
    measured = list(measure_all(subject, jobs, plan, warnings.append, on_test=True))
    assert not warnings and len(list(once.iterdir())) == 1
    expected = [Formula().measure(job.config, "test", 0).metrics() for job in jobs]
    assert [found and found.metrics() for found in measured] == expected


def test_a_job_whose_gpu_failed_runs_again_alone_in_another_process(tmp_path: Path, plan: Plan) -> None:
    jobs = jobs_of(0.5, 0.4)
    subject, warnings = Formula(breaks=(0.49, 0.51), once=folder_of(tmp_path, "once")), list[str]()
    assert None not in measure_all(subject, jobs, plan, warnings.append, on_test=True) and not warnings

    always = Formula(breaks=(0.49, 0.51), log=tmp_path / "measured")
    first, second = measure_all(always, jobs, plan, warnings.append, on_test=True)
    assert first is None and second is not None
    assert warnings == ["a configuration could not be measured: " + warnings[0].split(": ", 1)[1]]
    assert warnings[0].endswith("DeviceError: CUDA error: unspecified launch failure")
    assert len(lines(tmp_path / "measured")) == 1 + 1 + RETRIES


@pytest.mark.parametrize("by", ["somebody", "the memory monitor"])
def test_a_measurement_that_always_loses_its_worker_is_given_up(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Ray itself would endlessly repeat a task that its monitor kills."""
    if by == "the memory monitor":
        by_the_memory_monitor(monkeypatch, WorkerCrashedError)
    jobs = jobs_of(0.2, 0.4)
    warnings: list[str] = []
    subject = Formula(kills=(0.3, 0.5), log=tmp_path / "measured")
    first, second = measure_all(subject, jobs, plan, warnings.append, on_test=True)
    assert first is not None and second is None and len(warnings) == 1
    again = RETRIES if by == "somebody" else 1
    assert len(lines(tmp_path / "measured")) == 1 + 1 + again
