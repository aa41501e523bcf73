"""(g) Trials on one GPU: one by itself, several at once, and the share of its peak."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import psutil
import torch

from etarec import fitting
from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.data import Interactions
from etarec.device import default_device
from etarec.evaluate import Measurement
from etarec.kernels.inner_loop_dual import dual
from etarec.models import SequenceModel, build
from search.running import mps, runner
from search.spec import SearchConfig
from search.subject import Job, Recommender
from tests.benchmarks import material, peak, timing, together
from tests.benchmarks.frame import Cell, Settings, Table

AT_ONCE, STACKED = (1, 4, 8, 16), (4, 16)
USERS, EPOCH_USERS, REPEATS = 3000, 2000, 3
ADMITTED_APART, RANKS_APART = 0.001, 0.01  # largest shares of samples on which CPU and GPU may differ
NOTHING = "nothing was measured, because this machine has no GPU; docs/performance-gpu.md is from one that has"
TRIALS = {
    "no adaptation": AdaptConfig(target="none"),
    "weights, gated": AdaptConfig(),
    "weights, adapt on everything": AdaptConfig(gate="open", new_transitions_only=False),
    "state, adapt on everything": AdaptConfig(target="state", gate="open", weighting="none"),
}


def gpu(settings: Settings) -> Table:
    return _table(
        settings,
        "(g) On a GPU: a trial by itself",
        f"The trials of (b) serve every sample of {USERS:,} users of the validation stream: on the CPU with one "
        "thread, on the GPU, and on the GPU with the inner loop by torch instead of the kernels of "
        f"inner_loop_triton.py. Wall seconds, medians of {REPEATS} rounds in which the three take turns. Rounding lets "
        f"at most {ADMITTED_APART:.1%} of the samples be admitted by the CPU or the GPU only, and {RANKS_APART:.0%} of "
        f"the ranks differ. The last rows are training epochs of {EPOCH_USERS:,} users in steps of about 512 samples, "
        "and the memory in use at the end.",
        [lambda device: _alone(settings, device), lambda device: _epoch(settings, device), _memory],
    )


def gpu_shared(settings: Settings) -> Table:
    return _table(
        settings,
        "(g) On a GPU: several trials at once",
        "Trials of target `weights` behind the default gate serve the whole validation stream in separate processes "
        "that share one device (fractional gpus_per_trial). The device takes turns between them or, by CUDA's "
        "Multi-Process Service, works for all at once; time counts from warm workers on. Stacked: the prototype of "
        "`together`, several configurations in one process. Its rows give the seconds of its own code run one after "
        "another, and of the product's code alone on the device, divided by those of stacking.",
        [
            *(lambda device, way=way: [_trials(settings, *way)] for way in _ways()),
            *(lambda device, count=count: _stacked(settings, device, count) for count in STACKED),
        ],
    )


def gpu_peak(settings: Settings) -> Table:
    return _table(
        settings,
        "(g) On a GPU: share of its matrix-product peak",
        "As in (f), in wall seconds, in full float32, without TF32.",
        [lambda device: _shares(settings, device)],
    )


def _table(
    settings: Settings, title: str, about: str, parts: Sequence[Callable[[torch.device], list[list[Cell]]]]
) -> Table:
    rows: list[list[Cell]] = [[NOTHING, None, None]]
    if torch.cuda.is_available():
        device = default_device()
        rows = []
        for part in parts:
            rows += part(device)
            print(
                *rows, sep="\n", file=sys.stderr, flush=True
            )  # a rented device may disappear before the table is complete
    return Table(title, about, ["", "measured", "unit"], rows)


def _alone(settings: Settings, device: torch.device) -> list[list[Cell]]:
    checkpoint, data = material.checkpoint(settings), _part(settings, USERS)
    core, chip, plain = (material.Subject(data, checkpoint, where) for where in (material.DEVICE, device, device))
    _by_torch(plain.model)
    rows: list[list[Cell]] = []
    for name, config in TRIALS.items():
        measured: dict[str, Measurement] = {}
        works = {
            "CPU, one thread": _keeping(measured, "cpu", core, config),
            "GPU": _keeping(measured, "gpu", chip, config),
            "GPU, inner loop in torch": _keeping(measured, "torch", plain, config),
        }
        rows += _rows(f"{name}: ", works)
        for other in ("gpu", "torch"):
            _check(measured[other].admitted != measured["cpu"].admitted, ADMITTED_APART, "admissions")
            _check(measured[other].ranks != measured["cpu"].ranks, RANKS_APART, "ranks")
    return rows


def _check(differing: Any, share: float, name: str) -> None:
    count, most = int(differing.sum()), max(3, share * len(differing))
    assert count <= most, f"{count} of {len(differing)} {name} differ between CPU and GPU, expected at most {most:.0f}"


def _keeping(
    measured: dict[str, Measurement], name: str, subject: material.Subject, config: AdaptConfig
) -> Callable[[], Any]:
    return lambda: measured.__setitem__(name, subject.trial(config))


def _rows(prefix: str, works: dict[str, Callable[[], Any]]) -> list[list[Cell]]:
    for work in works.values():  # compiles kernels and allocates memory
        work()
    runs = timing.interleaved(list(works.values()), REPEATS)
    return [[prefix + name, median(run.wall for run in own), "s"] for name, own in zip(works, runs, strict=True)]


def _by_torch(model: SequenceModel) -> None:
    for block in model.blocks:
        block.ttt.form = dual


def _epoch(settings: Settings, device: torch.device) -> list[list[Cell]]:
    data, config = _part(settings, EPOCH_USERS), TrainConfig()
    works: dict[str, Callable[[], Any]] = {}
    for name in ("GPU", "GPU, inner loop in torch"):
        model = build(ModelConfig(), data.n_items, config.dropout).to(device)
        if name != "GPU":
            _by_torch(model)
        works[name] = _training(model, data, config)
    return _rows("training epoch: ", works)


def _training(model: SequenceModel, data: Interactions, config: TrainConfig) -> Callable[[], float]:
    optimizers = fitting._optimizers(model, config)
    return lambda: material.epoch(model, data, config, *optimizers)


def _part(settings: Settings, users: int) -> Interactions:
    return material.part_of(material.interactions(settings), 60 if settings.quick else users)


def _memory(device: torch.device) -> list[list[Cell]]:
    free, total = torch.cuda.mem_get_info(device)
    held = {"its memory on the host": psutil.Process().memory_info().rss, "all memory in use on the GPU": total - free}
    return [[name, count / 2**20, "MiB"] for name, count in held.items()]


def _ways() -> list[tuple[int, bool]]:
    """The number of trials at once, and whether CUDA's service shares the device."""
    served = [False, True] if mps.offered() else [False]
    return [(count, by_mps) for count in AT_ONCE for by_mps in served if count > 1 or not by_mps]


def _trials(settings: Settings, count: int, by_mps: bool) -> list[Cell]:
    search = SearchConfig(trials=max(2 * count, 4), concurrency=count, gpus_per_trial=1 / count, cuda_mps=by_mps)
    data, checkpoint = material.interactions(settings), material.checkpoint(settings)
    subject = Recommender(data, checkpoint, "position", 0).without_test()
    jobs = [Job(replace(AdaptConfig(), entropy_quantile=0.4 + n / 100), seed=n) for n in range(search.budget)]
    complaints: list[str] = []
    with runner.cluster(search, None) as plan:
        assert plan.mps == by_mps, plan.note
        list(runner.measure_all(subject, jobs[:count], plan, complaints.append, on_test=False))
        begin = time.perf_counter()
        measured = list(runner.measure_all(subject, jobs, plan, complaints.append, on_test=False))
        seconds = time.perf_counter() - begin
    if None in measured:
        raise RuntimeError(f"trials failed: {complaints}")
    how = ", by CUDA MPS" if by_mps else ", in turns" if count > 1 else ""
    return [f"{count} at a time{how}", 60 * len(jobs) / seconds, "trials per minute"]


def _stacked(settings: Settings, device: torch.device, count: int) -> list[list[Cell]]:
    subject = together._subject(settings, device)
    together.compare(subject, device, count, repeats=1)
    _, stacked, alone, _, ours = together.compare(subject, device, count, repeats=3)
    name = f"{count} stacked, a configuration: "
    assert isinstance(stacked, float) and isinstance(alone, float) and isinstance(ours, float)
    return [[name + "one after another", alone / stacked, "times"], [name + "ours", ours / stacked, "times"]]


def _shares(settings: Settings, device: torch.device) -> list[list[Cell]]:
    rows, _ = peak.measured(settings, device)
    return [[rows[0][0], rows[0][3], "GFLOP/s"], *([row[0], row[4], "of peak"] for row in rows[1:])]
