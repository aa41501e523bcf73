"""The smallest GPU of a cluster: asked of each node that has one, and unknown where none answers."""

import math
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from search.running import gpu_memory

NODES = [
    {"NodeID": "a" * 56, "Alive": True, "Resources": {"CPU": 8.0, "GPU": 4.0}},
    {"NodeID": "b" * 56, "Alive": True, "Resources": {"CPU": 8.0, "GPU": 1.0}},
    {"NodeID": "c" * 56, "Alive": True, "Resources": {"CPU": 8.0}},
    {"NodeID": "d" * 56, "Alive": False, "Resources": {"GPU": 1.0}},
]


class Remote:
    """Stands in for a remote function and for the reference that it gives."""

    def __init__(self, node: str = ""):
        self.node = node

    def options(self, scheduling_strategy: Any) -> "Remote":
        assert not scheduling_strategy.soft
        return Remote(scheduling_strategy.node_id)

    def remote(self) -> "Remote":
        return self


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({"a": 80e9, "b": 40e9}, 40e9),
        ({"a": 80e9, "b": GetTimeoutError()}, 80e9),
        ({"a": RayTaskError("visible", "", ValueError()), "b": math.inf}, math.inf),
    ],
)
def test_the_smallest_of_the_nodes_that_answer(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], expected: float
) -> None:
    cancelled = []

    def get(reference: Remote, timeout: float) -> float:
        answer = answers[reference.node[0]]
        if isinstance(answer, Exception):
            raise answer
        return float(answer)

    monkeypatch.setattr("ray.nodes", lambda: NODES)
    monkeypatch.setattr("ray.remote", lambda **options: lambda function: Remote())
    monkeypatch.setattr("ray.get", get)
    monkeypatch.setattr("ray.cancel", lambda reference, force: cancelled.append(reference.node[0]))
    assert gpu_memory.smallest() == expected
    assert cancelled == [name for name, answer in answers.items() if isinstance(answer, GetTimeoutError)]


def test_without_gpus_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.nodes", lambda: NODES[2:])
    assert gpu_memory.smallest() == math.inf


@pytest.mark.slow
@pytest.mark.ray
def test_a_node_answers_through_ray() -> None:
    """Without a real GPU its answer is that the memory is unknown."""
    ray.init("local", num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        assert gpu_memory.smallest() == gpu_memory.visible()
    finally:
        ray.shutdown()
