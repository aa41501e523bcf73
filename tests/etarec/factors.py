"""Made-up hidden states, item vectors and targets for the tests of scoring and likelihood."""

import pytest
import torch
from torch import Tensor

SIZES = pytest.mark.parametrize(("B", "V"), [(1, 1), (1, 7), (9, 30), (300, 2500), (257, 1024)])


def factors(B: int, V: int, D: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(B + V)
    hidden, vectors = (torch.randn(n, D, generator=generator, dtype=torch.float64).to(dtype) for n in (B, V))
    return hidden, vectors, torch.randint(V, (B,), generator=generator)
