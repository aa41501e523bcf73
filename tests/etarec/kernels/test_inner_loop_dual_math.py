"""The building blocks of the dual form against autograd."""

import torch

from etarec import ttt
from etarec.kernels import inner_loop_dual_math


def test_gelu_its_slope_and_its_curvature():
    x = torch.linspace(-6, 6, 201, dtype=torch.float64, requires_grad=True)
    value = ttt.gelu(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    at = inner_loop_dual_math.gelu(x.detach())
    for ours, expected in (
        (at.value, value),
        (inner_loop_dual_math.gelu_slope(at), slope),
        (inner_loop_dual_math.gelu_curvature(at), curvature),
    ):
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-10, atol=1e-12)


def test_gelu_far_from_zero_is_the_identity_or_zero():
    at = inner_loop_dual_math.gelu(torch.tensor([-1e4, -40.0, 40.0, 1e4]))
    assert at.value.tolist() == [0, 0, 40, 1e4]
    assert inner_loop_dual_math.gelu_slope(at).tolist() == [0, 0, 1, 1]
    assert inner_loop_dual_math.gelu_curvature(at).tolist() == [0, 0, 0, 0]
