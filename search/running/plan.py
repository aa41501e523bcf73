"""How many trials run at once and what each gets: pure arithmetic over a machine's resources and a trial's memory."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

import psutil
import torch

from etarec.config import UserError
from search.running import cgroup, learning, mps
from search.spec import SearchConfig
from search.subject import Recommender, Subject

GIB = 2**30
WORKER_BYTES = 450 * 2**20  # a worker process after importing torch, Ray Tune and this program, with its buffers
CUDA_BYTES = 3 * 2**29  # on top of that on a GPU, both in host and in GPU memory: docs/performance-gpu.md
TRAINED_COPIES = 4  # of each parameter: weight, gradient, Adam's two moments
MEMORY_SHARE = 0.9  # of all memory; the rest is left to the driver and the system
SERVICES_BYTES = 768 * 2**20  # at least that much is left to them: the driver and Ray's own processes took 771 MiB
LEAST_BYTES = 2**30  # a search with one small trial at a time took 1.2 GiB
# Most trials per GPU. On an H200 with 16 cores, 16 trials in turns were no faster than 8. Side by side by MPS, 16 at
# once finished 1.8 times as many trials a minute as 8: docs/performance-gpu.md.
IN_TURNS_PER_GPU, SIDE_BY_SIDE_PER_GPU = 8, 16


@dataclass(frozen=True)
class Machine:
    """Cores, GPUs and memory in bytes, of one machine or of a whole cluster.

    gpu_memory: that of the smallest GPU. mps: whether processes can share a GPU by CUDA's Multi-Process Service.
    """

    cores: float
    gpus: float = 0
    memory: float = math.inf
    free_memory: float = math.inf
    gpu_memory: float = math.inf
    mps: bool = False


@dataclass(frozen=True)
class Plan:
    """How many trials run at once, and the resources of each.

    limit: the resources that allow no more trials, in words. mps: whether trials use CUDA's Multi-Process Service.
    learning: from which trial on the sampler learns, in words.
    """

    concurrency: int
    threads_per_trial: int
    cpus_per_trial: float
    gpus_per_trial: float
    limit: str = ""
    note: str = ""
    mps: bool = False
    learning: str = ""

    @property
    def resources(self) -> dict[str, float]:
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    @property
    def resources_each(self) -> tuple[int, int, float, float]:
        """Everything of the plan that a trial's speed depends on."""
        return self.concurrency, self.threads_per_trial, self.cpus_per_trial, self.gpus_per_trial

    def __str__(self) -> str:
        """2 trials at once (2 cores, memory for 18), 1 thread each; the sampler learns from trial-0006 on"""
        gpu = f" and {self.gpus_per_trial:.3g} GPU" if self.gpus_per_trial else ""
        by = " by CUDA MPS" if self.mps else ""
        learns = f"; {self.learning}" if self.learning else ""
        return (
            f"{self.concurrency} trial{'s' * (self.concurrency > 1)} at once ({self.limit}), "
            f"{self.threads_per_trial} thread{'s' * (self.threads_per_trial > 1)}{gpu} each{by}{learns}"
        )


def this_machine() -> Machine:
    """A container's or batch system's limits count as the machine's size."""
    count, limits = torch.cuda.device_count(), memory_limits()
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
    return Machine(cores(), count, *limits, min(sizes, default=math.inf), mps.offered())


def memory_limits() -> tuple[float, float]:
    """The bytes of memory that this process and its children may use, and those of them that are free."""
    host, (limit, free) = psutil.virtual_memory(), cgroup.memory()
    return min(host.total, limit), min(host.available, free)


def cores() -> int:
    """Cores that this process may use. A container or a batch system may grant fewer than the machine has."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(max(1, min(there, cgroup.cores())))


def trial_bytes(subject: Subject | None) -> float:
    """Memory of one worker, without the interactions and the checkpoint, which Ray's object store shares.

    A worker holds its process, TRAINED_COPIES of the parameters, the gate's moving average (16 bytes per item), and its
    encoder's items (8 bytes per interaction).
    """
    if not isinstance(subject, Recommender):
        return WORKER_BYTES
    weights = sum(array.nbytes for array in subject.checkpoint.weights.values())
    return WORKER_BYTES + TRAINED_COPIES * weights + 16 * subject.data.n_items + 8 * subject.data.n_interactions


def plan(search: SearchConfig, machine: Machine, need: float = WORKER_BYTES) -> Plan:
    """The plan of a search on a machine, where `auto` fills cores, memory and GPUs.

    The number of threads changes the last digits of a trial's numbers, so it depends on the machine's size alone: its
    cores divided by the trials that fit into its memory and GPUs, whatever is free and however many trials there are.

    need: bytes per trial, without CUDA's. Raises UserError for GPUs or cores that do not exist, and if memory is short.
    """
    if machine.memory < LEAST_BYTES:
        raise UserError(
            f"a search may use {machine.memory / 2**20:,.0f} MiB of memory here, expected at least "
            f"{LEAST_BYTES / 2**20:,.0f} MiB; a container's or batch system's limit counts"
        )
    gpu_share = _gpu_share(search, machine, need + CUDA_BYTES)
    if gpu_share > machine.gpus:
        raise UserError(
            f"search.gpus_per_trial: given {gpu_share:g}, expected at most {machine.gpus:g}, the number of GPUs"
        )
    if search.cpus_per_trial != "auto" and search.cpus_per_trial > machine.cores:
        raise UserError(
            f"search.cpus_per_trial: given {search.cpus_per_trial:g}, expected at most {machine.cores:g}, the number "
            "of cores"
        )
    need += CUDA_BYTES if gpu_share else 0
    by_gpu = _fitting(machine.gpus, gpu_share) if gpu_share else math.inf
    cpus = _cpus_per_trial(search, machine, need, by_gpu)
    limits = _limits(machine, cpus, by_gpu, need)
    wanted = min(limits.values(), default=1) if search.concurrency == "auto" else search.concurrency
    concurrency = int(min(wanted, search.most_trials))
    return Plan(
        concurrency,
        max(1, int(cpus)),
        cpus,
        gpu_share,
        ", ".join(limits),
        _memory_note(search, machine, need, int(_fitting(machine.cores, cpus)), by_gpu),
        machine.mps and search.cuda_mps and 0 < gpu_share < 1 and concurrency > 1,
        learning.sentence(search, concurrency),
    )


def _cpus_per_trial(search: SearchConfig, machine: Machine, need: float, by_gpu: float) -> float:
    if search.cpus_per_trial != "auto":
        return search.cpus_per_trial
    most = max(1, int(min(machine.cores, by_gpu, for_trials(machine.memory) / need)))
    return float(max(1, int(machine.cores) // most))


def for_trials(memory: float) -> float:
    """The bytes of memory that trials may fill."""
    return min(memory * MEMORY_SHARE, memory - SERVICES_BYTES)


def _limits(machine: Machine, cpus: float, by_gpu: float, need: float) -> dict[str, int]:
    """How many trials each resource holds, by its description in words; resources without a limit are left out."""
    by_memory = for_trials(machine.free_memory) / need
    room = {
        f"{machine.cores:g} core{'s' * (machine.cores != 1)}": _fitting(machine.cores, cpus),
        f"memory for {count_text(by_memory)}": by_memory,
        f"{machine.gpus:g} GPU{'s' * (machine.gpus != 1)} for {count_text(by_gpu)}": by_gpu,
    }
    return {text: max(1, int(count)) for text, count in room.items() if count < math.inf}


def _gpu_share(search: SearchConfig, machine: Machine, need: float) -> float:
    """The share of a GPU that each trial reserves. Ray counts shares and not GPU memory, so memory decides here.

    With `auto`, the number of trials on a GPU is the smallest of three: trials that fit into its memory, cores per GPU,
    and the most trials that were measured to be faster together.
    """
    if search.gpus_per_trial != "auto":
        return search.gpus_per_trial
    if machine.gpus < 1:
        return 0.0
    feeding = max(1, int(machine.cores / machine.gpus))
    most = SIDE_BY_SIDE_PER_GPU if machine.mps and search.cuda_mps else IN_TURNS_PER_GPU
    together = min(most, feeding, machine.gpu_memory * MEMORY_SHARE / need)  # infinite where the memory is unknown
    return 1 / max(1, int(together))


def _fitting(there: float, share: float) -> float:
    """How many shares fit. A trial never spans two GPUs, so only whole shares of each GPU count."""
    if 0 < share < 1 and there >= 1:
        return float(int(there) * int(1 / share + 1e-9))
    return float(int(there / share + 1e-9))


def _memory_note(search: SearchConfig, machine: Machine, need: float, by_cores: int, by_gpu: float) -> str:
    fits = int(for_trials(machine.free_memory) / need) if machine.free_memory < math.inf else math.inf
    wanted = int(min(by_cores, by_gpu, search.most_trials)) if search.concurrency == "auto" else search.concurrency
    if fits >= wanted:
        return ""
    size = f"a trial needs about {need / GIB:.1f} GiB and {machine.free_memory / GIB:.1f} GiB are free"
    if search.concurrency == "auto":
        return f"memory limits how many trials run at once: {size}"
    return f"{search.concurrency} trials at once may run out of memory: {size}"


def of_cluster(resources: Mapping[str, float], gpu_memory: float = math.inf) -> Machine:
    """A cluster by Ray's totals, whose memory is the part that Ray assigns to work, and its smallest GPU's bytes."""
    memory = resources.get("memory", math.inf)
    return Machine(resources.get("CPU", 1), resources.get("GPU", 0), memory, memory, gpu_memory)


def count_text(count: float) -> str:
    return "many" if count == math.inf else f"{max(1, int(count))}"
