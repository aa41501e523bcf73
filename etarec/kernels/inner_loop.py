"""The inner loop of the TTT layer, in the fastest form that takes the tensors: Triton, C or torch."""

import importlib
from collections.abc import Sequence

from torch import Tensor

from etarec.kernels import inner_loop_c, inner_loop_triton
from etarec.kernels.build import compiler
from etarec.kernels.inner_loop_dual import FastLayer, InnerNorm, dual


def inner_loop(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    token_rate: Tensor,
    decay: Tensor,
    fast: Sequence[FastLayer],
    norm: InnerNorm,
    lengths: Tensor | None = None,
) -> Tensor:
    """The inner loop; arguments and result are those of `inner_loop_dual.dual`."""
    form = dual
    if inner_loop_triton.takes(q, decay, fast):
        form = inner_loop_triton.inner_loop
    elif inner_loop_c.takes(q, decay, fast):
        form = inner_loop_c.inner_loop
    return form(q, k, v, token_rate, decay, fast, norm, lengths)


def kernels() -> str:
    """The form that runs on a GPU here, recorded because the last digits of results depend on it."""
    try:
        version = importlib.import_module("triton").__version__
    except ImportError:
        return "torch"
    return "torch" if compiler() is None else f"triton {version}"
