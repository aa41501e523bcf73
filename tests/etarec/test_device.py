"""The device of a process, and how torch computes on it."""

import os

import pytest
import torch

from etarec.device import default_device


@pytest.fixture
def switched(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The switches of torch that were turned, by name; none is really turned."""
    switches: dict[str, object] = {}
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda on, warn_only: switches.update(deterministic=on))
    for name in ("flash", "mem_efficient"):
        turn = lambda on, name=name: switches.update({name: on})  # noqa: E731
        monkeypatch.setattr(torch.backends.cuda, f"enable_{name}_sdp", turn)
    return switches


def test_without_cuda_it_is_the_cpu_as_torch_has_it(
    monkeypatch: pytest.MonkeyPatch, switched: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_device() == torch.device("cpu")
    assert switched == {} and "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_cuda_computes_in_float32_and_in_the_same_order(
    monkeypatch: pytest.MonkeyPatch, switched: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device() == torch.device("cuda")
    assert switched == {"deterministic": True, "flash": False, "mem_efficient": False}
    assert torch.backends.cudnn.allow_tf32 is False and os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_user_s_workspace_of_cublas_stays(monkeypatch: pytest.MonkeyPatch, switched: dict[str, object]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    default_device()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
