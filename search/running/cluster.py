"""A Ray cluster for the time of a search: one on this machine alone, or a running one whose nodes are checked."""

import logging
import math
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import ray
import ray.cloudpickle
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from etarec import own
from etarec.config import UserError
from search.running import gpu_memory, mps, ray_internals
from search.running.address import check_address, keep_token_private, no_cluster
from search.running.faults import last_line
from search.running.plan import WORKER_BYTES, Machine, Plan, cores, of_cluster, plan, this_machine
from search.running.scratch import RAY, is_scratch, scratch
from search.running.signals import hangup_left_to_this_process, uninterrupted
from search.spec import SearchConfig

ANSWER_SECONDS = 120.0  # importing torch for the first time is slow on some nodes
_TOKEN = "; a cluster with a token wants RAY_AUTH_MODE=token and the head's ~/.ray/auth_token here"  # noqa: S105 - an advice
_WAITING = {"OMP_WAIT_POLICY": "passive"}  # waiting threads sleep; spinning ones would take cores from other trials


def machine(address: str | None, classes: Sequence[str] = ()) -> Machine:
    """Cores, GPUs and memory to plan with: this machine's, or those of the cluster at `address`.

    classes: class paths of the user's own, whose packages are sent to the cluster's nodes.
    """
    if address is None:
        return this_machine()
    with _ray(address, runtime_env=_environment(classes)):
        _check_nodes(address, classes)
        return _joined()


@contextmanager
def cluster(
    search: SearchConfig,
    address: str | None,
    need: float = WORKER_BYTES,
    warn: Callable[[str], Any] = lambda text: None,
    classes: Sequence[str] = (),
) -> Iterator[Plan]:
    """A Ray cluster for the time of the block: the one at `address`, or one of this machine's own.

    need: bytes of memory per trial. warn: gets a message per folder that a killed search left. classes: class paths of
    the user's own, whose packages are sent to the nodes. Raises UserError if no cluster answers, or if a node has other
    versions than this machine, or cannot import one of the classes.
    """
    if address is not None:
        with _ray(address, runtime_env=_environment(classes)):
            _check_nodes(address, classes)
            yield plan(search, _joined(), need)
        return
    here = this_machine()
    planned = plan(search, here, need)
    # Workers on this machine import the same modules as this process, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path) or os.getcwd()
    with scratch(warn) as folder, mps.service(folder) if planned.mps else nullcontext("") as fault:
        if fault:
            planned = plan(search, replace(here, mps=False), need)
            note = f"CUDA MPS does not start, so trials take turns on the GPU ({fault})"
            planned = replace(planned, note="; ".join(filter(None, (planned.note, note))))
        _tell_of_shared_memory(folder.parent, warn)
        count = max(cores(), math.ceil(planned.concurrency * planned.cpus_per_trial))  # more if the user asks for more
        with _ray(None, warn, include_dashboard=False, num_cpus=count, **ray_internals.files_in(folder / RAY)):
            yield planned


def _joined() -> Machine:
    """The running cluster that this process has joined."""
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return of_cluster(resources, gpu_memory.smallest() if resources.get("GPU") else math.inf)


def _environment(classes: Sequence[str]) -> dict[str, Any]:
    """Ray's runtime environment for the workers of a running cluster."""
    packages = sorted({str(own.package(path)) for path in classes})
    return {"env_vars": _WAITING, **({"py_modules": packages} if packages else {})}


@contextmanager
def _ray(address: str | None, warn: Callable[[str], Any] = lambda text: None, **options: Any) -> Iterator[None]:
    for key, value in (ray_internals.DRIVER | ray_internals.PROCESSES | _WAITING).items():
        os.environ.setdefault(key, value)
    for name in ("ray", "ray.tune", "ray.train", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    options |= {"log_to_driver": False, "logging_level": logging.CRITICAL}
    with ray_internals.without_its_messages():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _start(warn, options) if address is None else _join(address, options)
            yield
        finally:
            with uninterrupted():
                ray.shutdown()


def _tell_of_shared_memory(base: Path, warn: Callable[[str], Any]) -> None:
    """Warn if Ray keeps the data that trials share below `base`, on disk, because /dev/shm is small."""
    free, wanted = (size / 2**20 for size in ray_internals.shared_memory())
    if free < wanted:
        more = math.ceil(wanted / 1024)
        warn(
            f"the shared memory /dev/shm has {free:,.0f} MiB free, less than the {wanted:,.0f} MiB Ray reserves, "
            f"so trials share data by a file in {base}, which may be slower; Docker's --shm-size={more}g gives more"
        )


def _start(warn: Callable[[str], Any], options: dict[str, Any]) -> None:
    """A cluster of this machine alone, in which only this user can run code. A second attempt follows a time-out."""
    keep_token_private(ray_internals.new_token if ray_internals.wants_token_file() else None)
    with ray_internals.on_loopback(), hangup_left_to_this_process():
        reason = _late(options)
        if reason:
            warn(f"Ray does not start ({reason}); it is tried again")
            reason = _late(options)
    if reason:
        raise UserError(
            f"Ray does not start on this machine ({reason}), expected an answer from its processes within half a "
            "minute; end other programs if cores or memory are short, then try again"
        )


def _late(options: dict[str, Any]) -> str:
    """Start Ray. If its processes do not answer in time, they are ended, and Ray's words for that are returned."""
    this_process = psutil.Process()
    before = set(this_process.children(recursive=True))
    try:
        ray.init("local", **options)
    except Exception as error:
        if not ray_internals.timed_out(error):
            raise
        ray.shutdown()
        for started in set(this_process.children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                started.kill()
        return str(error).partition("\n")[0]
    return ""


def _join(address: str, options: dict[str, Any]) -> None:
    check_address(address)
    keep_token_private()
    try:
        if address == "auto":
            check_address(ray_internals.address_of_auto())
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        refusal = _refusal(address, error)
        if refusal is None:
            raise
        raise refusal from error
    if is_scratch(ray_internals.folder_of_cluster()):
        raise UserError(
            f"--address {address}: the cluster there belongs to another search, which ends it; expected a cluster of "
            "its own, such as `ray start --head` makes; without --address this machine alone is used"
        )


def _refusal(address: str, error: Exception) -> UserError | None:
    """The message for an error of `ray.init`; None if the error is not about the cluster at `address`."""
    there = ray_internals.other_versions(error)
    if there:
        here = f"Ray {ray.__version__} and Python {platform.python_version()}"
        return UserError(f"--address {address}: the cluster runs {there}, expected {here}, which this search runs on")
    if isinstance(error, RuntimeError):
        return None
    return no_cluster(f"--address {address}", str(error).partition("\n")[0], _TOKEN)


def several_gpus() -> bool:
    """Whether any node of the cluster has more than one GPU."""
    return any(node["Resources"].get("GPU", 0) > 1 for node in _alive().values())


# Nodes get the code of this module's functions: one that lacks the package can then still run `_installed`.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # type: ignore[no-untyped-call]


def _check_nodes(address: str, classes: Sequence[str]) -> None:
    """Raises UserError that names each node with other versions than this machine, and what differs."""
    here = _installed(classes)
    ask = ray.remote(num_cpus=0, max_retries=1)(_installed)
    nodes = _alive()
    asked = {
        key: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(key, soft=False)).remote(classes)
        for key in nodes
    }
    wrong = [
        f"node {nodes[key]['NodeManagerAddress']} ({nodes[key]['NodeManagerHostname']}): {problem}"
        for key, reference in asked.items()
        if (problem := _problem(key, reference, here))
    ]
    if wrong:
        raise UserError(f"--address {address}: {'; '.join(wrong)}; expected the same on every node as here")


def _alive() -> dict[str, dict[str, Any]]:
    """Ray's nodes by their ids."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def _problem(node: str, reference: Any, here: dict[str, str]) -> str:
    try:
        there: dict[str, str] = ray.get(reference, timeout=ANSWER_SECONDS)
    except GetTimeoutError:
        return f"does not answer within {ANSWER_SECONDS:.0f} s"
    except RayError as error:
        if node not in _alive():
            return ""  # the node has left, so it measures nothing
        return f"its versions are unknown, expected a node that can run a task ({last_line(str(error))})"
    differing = [
        f"{what} {there[what]}, here {here[what]}" for what in here if there.get(what, here[what]) != here[what]
    ]
    return ", ".join(differing)


def _installed(classes: Sequence[str]) -> dict[str, str]:
    """Versions on which a measurement depends, by name. Self-contained, to run on nodes without this package."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("ray", "torch", "numpy"):
        try:
            found[name] = version(name).split("+")[0]  # CPU and CUDA builds may mix
        except PackageNotFoundError:
            found[name] = "is missing"
    try:
        from etarec import own
        from etarec.kernels.build import kind
        from search.records.provenance import digest

        found |= {"etarec's code": digest(), "code for the CPU (by a C compiler)": kind()}
    except ImportError as error:
        found |= {"etarec's code": f"cannot be imported ({error})", "code for the CPU (by a C compiler)": "unknown"}
        return found
    for path in classes:
        try:
            own.load(path, ("class",))
            found[f"{path}'s code"] = own.digest(path)
        except own.UnusableError as error:
            found[f"{path}'s code"] = f"is unknown: {error.problem}"
    return found
