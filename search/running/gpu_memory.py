"""The memory of a cluster's GPUs, which Ray does not know: a task on each node that has one looks it up."""

import math
from typing import Any

import ray
import torch
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ANSWER_SECONDS = 60.0  # a node whose GPUs are all in use does not answer
SHARE = 0.01  # of a GPU: Ray hides GPUs from a task that reserves none


def smallest() -> float:
    """Bytes of the smallest GPU of the cluster's nodes; infinite where no node answers."""
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU", 0) >= SHARE]  # type: ignore[no-untyped-call]
    ask = ray.remote(num_cpus=0, num_gpus=SHARE, max_retries=0)(visible)
    asked = [ask.options(scheduling_strategy=_on(node["NodeID"])).remote() for node in nodes]
    return min(map(_answer, asked), default=math.inf)


def visible() -> float:
    """Bytes of the smallest GPU that this process sees; infinite without one."""
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count())]
    return float(min(sizes, default=math.inf))


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


def _answer(reference: Any) -> float:
    try:
        return float(ray.get(reference, timeout=ANSWER_SECONDS))
    except GetTimeoutError:
        ray.cancel(reference, force=True)
        return math.inf
    except RayError:
        return math.inf
