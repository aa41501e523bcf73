"""Where a process computes."""

import os

import torch


def default_device() -> torch.device:
    """The CUDA device where there is one, told to take its sums in the same order in every run; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product; without it torch warns
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # what is read is written before
    return torch.device("cuda")
