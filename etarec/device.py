"""The device on which a process computes."""

import os

import torch


def default_device() -> torch.device:
    """The CUDA device if there is one, else the CPU.

    Torch is set to compute in float32 throughout and, where it can, to add in the same order in every run.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it before its first product
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # saves time
    torch.backends.cudnn.allow_tf32 = False  # on by default in recurrent networks, with a 10-bit mantissa
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # its gradient adds in no fixed order
    return torch.device("cuda")
