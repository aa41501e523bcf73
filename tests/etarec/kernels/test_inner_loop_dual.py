"""The dual form around its gradient, which test_ttt.py tests against the literal form."""

import weakref

import pytest
import torch

from etarec import ttt
from etarec.kernels import inner_loop_dual


def test_gradients_do_not_depend_on_which_others_are_needed():
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


def test_without_gradients_one_mini_batch_at_a_time_is_alive(monkeypatch):
    alive, most = weakref.WeakSet(), []
    learn = inner_loop_dual._learn

    def watched(*given):
        batch = learn(*given)
        alive.add(batch)
        most.append(len(alive))
        return batch

    monkeypatch.setattr(inner_loop_dual, "_learn", watched)
    monkeypatch.setattr(inner_loop_dual._MiniBatch, "__hash__", object.__hash__)
    layer = ttt.TTTLayer(8, 2, "mlp", 4, inner_rate=1.0, rope_base=1000.0)
    with torch.no_grad():
        layer(torch.randn(2, 24, 8))
    assert max(most) <= 2  # the next one is made while the last one still has its name


def test_backward_twice_gives_the_same():
    layer = ttt.TTTLayer(8, 2, "mlp", 4, inner_rate=1.0, rope_base=1000.0).double()
    x = torch.randn(2, 11, 8, dtype=torch.float64, requires_grad=True)
    loss = layer(x).square().sum()
    first, second = (torch.autograd.grad(loss, [x], retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
