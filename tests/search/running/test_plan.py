"""The plan of a search, which is pure arithmetic, on machines of all sizes."""

from dataclasses import replace
from math import inf
from typing import Any

import pytest

from etarec.config import UserError
from search.running.plan import GIB, IN_TURNS_PER_GPU, SIDE_BY_SIDE_PER_GPU, Machine, of_cluster, plan, this_machine
from search.spec import SearchConfig

BOX = Machine(cores=2, memory=24 * GIB, free_memory=20 * GIB)
SMALL = Machine(cores=16, memory=8 * GIB, free_memory=6 * GIB)
GPU = Machine(cores=16, gpus=1, memory=128 * GIB, free_memory=120 * GIB, gpu_memory=80 * GIB)


@pytest.mark.parametrize(
    ("machine", "need", "expected"),  # trials at once, threads of each, GPUs of each
    [
        (BOX, GIB, (2, 1, 0)),
        (replace(BOX, cores=1), GIB, (1, 1, 0)),
        (replace(BOX, cores=64), GIB, (18, 3, 0)),  # memory for 21 by the machine's size: 64 // 21 threads
        (SMALL, 2 * GIB, (2, 5, 0)),  # three fit the machine, two its free memory
        (SMALL, 100 * GIB, (1, 16, 0)),  # one at least
        (GPU, GIB, (8, 2, 1 / 8)),
        (GPU, 20 * GIB, (3, 5, 1 / 3)),  # by the GPU's memory
        (replace(GPU, gpus=2), GIB, (16, 1, 1 / 8)),
        (replace(GPU, gpus=4), GIB, (16, 1, 1 / 4)),  # by cores
        (replace(GPU, cores=2), GIB, (2, 1, 1 / 2)),
        (replace(GPU, gpu_memory=8 * GIB), GIB / 2, (3, 5, 1 / 3)),  # by the GPU's memory: CUDA's own counts
        (replace(GPU, memory=8 * GIB, free_memory=7 * GIB), GIB / 2, (3, 5, 1 / 8)),  # by the host's, likewise
    ],
)
def test_auto_fills_cores_memory_and_gpus(machine: Machine, need: float, expected: tuple[int, int, float]) -> None:
    planned = plan(SearchConfig(), machine, need)
    assert (planned.concurrency, planned.threads_per_trial, planned.gpus_per_trial) == expected
    assert planned.concurrency * planned.cpus_per_trial <= machine.cores


@pytest.mark.parametrize("machine", [BOX, SMALL, GPU])
@pytest.mark.parametrize("free", [0.1, 0.5, 1.0])
def test_threads_do_not_depend_on_what_is_asked_for_or_free(machine: Machine, free: float) -> None:
    usual = plan(SearchConfig(), machine, 2 * GIB)
    for concurrency in (1, 2, 5, 16):
        asked = SearchConfig(concurrency=concurrency, trials=50)
        planned = plan(asked, replace(machine, free_memory=free * machine.free_memory), 2 * GIB)
        assert (planned.concurrency, planned.threads_per_trial) == (concurrency, usual.threads_per_trial)


@pytest.mark.parametrize(("cpus", "expected"), [(2.0, (8, 2)), (0.5, (32, 1)), (16.0, (1, 16)), (3.0, (5, 3))])
def test_a_number_fixes_the_cores_of_a_trial(cpus: float, expected: tuple[int, int]) -> None:
    planned = plan(SearchConfig(cpus_per_trial=cpus), Machine(cores=16))
    assert (planned.concurrency, planned.threads_per_trial, planned.cpus_per_trial) == (*expected, cpus)


def test_there_are_no_more_at_once_than_trials() -> None:
    assert plan(SearchConfig(trials=3), Machine(cores=16)).concurrency == 3


def test_no_gpu_is_used_where_none_is_or_zero_is_asked() -> None:
    assert plan(SearchConfig(), BOX).gpus_per_trial == 0
    assert plan(SearchConfig(gpus_per_trial=0.0), GPU).resources == {"cpu": 1.0, "gpu": 0.0}


def test_a_fraction_shares_a_gpu_and_none_spans_two() -> None:
    assert plan(SearchConfig(gpus_per_trial=0.6), replace(GPU, gpus=2)).concurrency == 2
    assert plan(SearchConfig(gpus_per_trial=0.25), GPU).concurrency == 4


@pytest.mark.parametrize(
    ("served", "search", "expected"),
    [
        (False, {}, (IN_TURNS_PER_GPU, False)),
        (True, {}, (SIDE_BY_SIDE_PER_GPU, True)),
        (True, {"cuda_mps": False}, (IN_TURNS_PER_GPU, False)),
        (True, {"gpus_per_trial": 0.25}, (4, True)),
        (True, {"gpus_per_trial": 1.0}, (1, False)),
        (True, {"gpus_per_trial": 0.0, "trials": 64}, (64, False)),
        (True, {"trials": 1}, (1, False)),
    ],
)
def test_cudas_service_is_wanted_where_trials_share_a_gpu(
    served: bool, search: dict[str, Any], expected: tuple[int, bool]
) -> None:
    planned = plan(SearchConfig(**search), replace(GPU, cores=256, memory=inf, free_memory=inf, mps=served))
    assert (planned.concurrency, planned.mps) == expected
    assert ("CUDA MPS" in str(planned)) == planned.mps


def test_gpus_that_are_not_there_are_named() -> None:
    with pytest.raises(UserError, match=r"^search.gpus_per_trial: given 0.5, expected at most 0, the number of GPUs$"):
        plan(SearchConfig(gpus_per_trial=0.5), BOX)


def test_the_plan_says_what_was_chosen_and_why() -> None:
    both = "2 trials at once (2 cores, memory for 18), 1 thread each"
    assert str(plan(SearchConfig(), BOX, GIB)) == f"{both}; the sampler learns from trial-0006 on"
    assert str(plan(SearchConfig(trials=1), replace(SMALL, cores=1), GIB)).startswith("1 trial at once (1 core, ")
    on_gpu = str(plan(SearchConfig(), GPU, GIB))
    resources = "8 trials at once (16 cores, memory for 43, 1 GPU for 8), 2 threads and 0.125 GPU each"
    assert on_gpu == f"{resources}; the sampler learns from trial-0015 on"


def test_a_note_where_memory_limits() -> None:
    assert plan(SearchConfig(), BOX, GIB).note == ""
    assert plan(SearchConfig(concurrency=2), BOX, GIB).note == ""
    scarce = replace(BOX, cores=8, free_memory=3 * GIB)
    assert "memory limits" in plan(SearchConfig(), scarce, GIB).note
    assert "about 1.0 GiB and 3.0 GiB are free" in plan(SearchConfig(), scarce, GIB).note
    assert "8 trials at once may run out of memory" in plan(SearchConfig(concurrency=8), scarce, GIB).note


def test_the_driver_and_ray_come_before_trials() -> None:
    small = Machine(cores=8, memory=1.5 * GIB, free_memory=1.4 * GIB)
    assert plan(SearchConfig(), small).concurrency == 1
    assert plan(SearchConfig(), replace(small, memory=2 * GIB, free_memory=1.8 * GIB)).concurrency == 2
    with pytest.raises(UserError, match=r"may use 512 MiB of memory here, expected at least 1,024 MiB; a container's"):
        plan(SearchConfig(), replace(small, memory=GIB / 2))


def test_a_cluster_is_planned_by_what_ray_hands_out() -> None:
    assert of_cluster({"CPU": 32.0, "GPU": 2.0, "memory": 1e9}) == Machine(32, 2, 1e9, 1e9)
    assert of_cluster({}) == Machine(1)


def test_the_gpu_memory_of_a_cluster_limits_its_trials() -> None:
    resources = {"CPU": 64.0, "GPU": 4.0, "memory": 900.0 * GIB}
    unknown, known = (plan(SearchConfig(), of_cluster(resources, size), 11 * GIB) for size in (inf, 40 * GIB))
    assert (unknown.concurrency, known.concurrency) == (4 * IN_TURNS_PER_GPU, 4 * 2)
    assert known.gpus_per_trial == pytest.approx(1 / 2)


def test_this_machine_has_cores_and_memory() -> None:
    here = this_machine()
    assert here.cores >= 1 and 0 < here.free_memory <= here.memory < inf


def test_a_trial_cannot_have_more_cores_than_there_are() -> None:
    with pytest.raises(UserError, match=r"search.cpus_per_trial: given 17, expected at most 16, the number of cores"):
        plan(SearchConfig(cpus_per_trial=17.0), Machine(cores=16))
