"""The pieces of the hand-made gradient against autograd; the whole of it stands in test_ttt.py."""

import pytest
import torch

from etarec import dual, ttt


def test_gelu_its_slope_and_its_curvature():
    x = torch.linspace(-6, 6, 201, dtype=torch.float64, requires_grad=True)
    value = ttt.gelu(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    at = dual._gelu(x.detach())
    for ours, expected in ((at.value, value), (dual._slope(at), slope), (dual._curvature(at), curvature)):
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-10, atol=1e-12)


def test_gelu_far_out_is_the_identity_or_nothing():
    at = dual._gelu(torch.tensor([-1e4, -40.0, 40.0, 1e4]))
    assert at.value.tolist() == [0, 0, 40, 1e4]
    assert dual._slope(at).tolist() == [0, 0, 1, 1]
    assert dual._curvature(at).tolist() == [0, 0, 0, 0]


def test_gradients_do_not_depend_on_what_else_is_asked_for():
    """A frozen layer below, or frozen weights, must not change the others' gradients."""
    torch.manual_seed(0)
    layer = ttt.TTTLayer(8, 2, "mlp", 4, inner_rate=1.0, rope_base=1000.0).double()
    x = torch.randn(3, 11, 8, dtype=torch.float64, requires_grad=True)
    both = torch.autograd.grad(layer(x).square().sum(), [x, layer.q.weight, layer.fast_weights[0]])
    layer.requires_grad_(False)
    (alone,) = torch.autograd.grad(layer(x).square().sum(), [x])
    torch.testing.assert_close(alone, both[0])
    layer.q.requires_grad_(True)
    (queries,) = torch.autograd.grad(layer(x.detach()).square().sum(), [layer.q.weight])
    torch.testing.assert_close(queries, both[1])


def test_backward_cannot_be_differentiated_again():
    """Better an error than a wrong second derivative."""
    layer = ttt.TTTLayer(8, 2, "mlp", 4, inner_rate=1.0, rope_base=1000.0)
    x = torch.randn(1, 3, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), [x], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
