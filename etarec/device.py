"""Where a process computes."""

import os

import torch


def default_device() -> torch.device:
    """The CUDA device where there is one, else the CPU.

    It is told to take its sums in the same order in every run where torch knows how, and of float32 throughout.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product; without it torch warns
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # what is read is written before
    torch.backends.cudnn.allow_tf32 = False  # by default recurrent networks compute with ten bits
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # whose gradient takes its sums as they come
    return torch.device("cuda")
