"""The worker's steps, run in this process."""

import numpy as np
import pytest
import ray
import torch
from formula import SAMPLES, Formula, WatchedFormula

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from etarec.metrics import QUALITY_METRICS, QualityMetric
from search.running import worker
from search.running.worker import TrialWorker
from search.selection.paired import Outcomes
from search.spec import PruneConfig


def trial_worker(subject: Formula) -> TrialWorker:
    made = TrialWorker.__new__(TrialWorker)
    made.config = {"adapt": vars(AdaptConfig(entropy_quantile=0.5)), "seed": 0}
    made.setup(made.config, subject)
    return made


def test_a_worker_prepares_first_and_measures_when_it_is_not_held() -> None:
    measuring = trial_worker(Formula())
    measuring.hold()
    assert [measuring.step() for _ in range(3)] == [{"up": True}] * 3
    measuring.begin()
    result = measuring.step()
    assert (
        result["done"]
        and result["metrics"] == Formula().measure(AdaptConfig(entropy_quantile=0.5), "valid", 0).metrics()
    )
    assert measuring.reset_config({}) and "metrics" in measuring.step()  # its next trial


@pytest.mark.parametrize("metric", QUALITY_METRICS)
def test_the_curve_along_the_stream_is_of_the_searched_metric(metric: QualityMetric) -> None:
    measuring = trial_worker(Formula())
    measuring.setup(measuring.config, Formula(), qualities=(metric,))
    measuring.step()
    curve = measuring.step()["curve"]
    assert curve == Formula().measure(AdaptConfig(entropy_quantile=0.5), "valid", 0).curve(metric)
    assert curve.keys() == {"samples", metric, "filter_rate"}


def test_an_exception_is_a_result_unless_it_may_be_others_doing() -> None:
    failing = trial_worker(Formula(fails=(0.4, 0.6)))
    failing.step()
    result = failing.step()
    assert result["error"] == "RuntimeError: the formula was told to fail" and "formula.py" in result["traceback"]
    short = trial_worker(OutOfMemory())
    short.step()
    with pytest.raises(MemoryError):
        short.step()


class OutOfMemory(Formula):
    def measure(self, *arguments: object) -> Measurement:
        raise MemoryError


@pytest.mark.parametrize(("cuda", "reserved", "there"), [("13.0", [0], False), ("13.0", [], False), (None, [0], False)])
def test_a_reserved_gpu_that_cuda_does_not_find_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, reserved: list[int], there: bool
) -> None:
    """Torch would compute on the CPU instead. With a build of torch without CUDA that is intended."""
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: reserved)
    assert bool(worker._device_fault()) == bool(cuda and reserved)


def test_a_trial_that_cannot_win_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    perfect = Outcomes.of(np.zeros(SAMPLES, int), np.zeros(SAMPLES, bool)).text()
    monkeypatch.setattr(ray, "get", lambda reference: reference)
    measuring = trial_worker(WatchedFormula())
    measuring.setup(measuring.config, WatchedFormula(), prune=PruneConfig())
    measuring.step()
    measuring.config["rivals"] = {"none": perfect}
    assert measuring.step() == {"pruned": "none is better in both objectives after 10% of the stream", "done": True}
    for alone in (
        trial_worker(WatchedFormula()),
        trial_worker(Formula()),
    ):  # no rivals; a subject that cannot be watched
        alone.setup(alone.config, alone.subject, prune=PruneConfig())
        alone.config["rivals"] = {"none": perfect} if type(alone.subject) is Formula else None
        alone.step()
        assert Outcomes.read(alone.step()["outcomes"]).admitted.mean() < 1
