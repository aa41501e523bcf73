"""The residual stream of post-norm models against autograd through the whole model with its branches detached."""

import pytest
import torch
from small_models import MAMBA4REC, SASREC, hidden_with_constant_branches, model_of, sequences
from torch import Tensor

from etarec.config import ModelConfig
from etarec.models import SequenceModel

POST_NORM = pytest.mark.parametrize("config", [SASREC, MAMBA4REC], ids=lambda config: config.name)


@POST_NORM
def test_finish_continues_from_what_residual_gave(config: ModelConfig) -> None:
    model, items = model_of(config), sequences(3, 7)
    x = model.embed(items)
    torch.testing.assert_close(model.finish(model.residual(x)), model.encode(x))


def along_the_stream(model: SequenceModel, items: Tensor, depth: str) -> Tensor:
    with torch.no_grad():
        residual = model.residual(model.embed(items))[0, -1]
    last = model.embed(items[:, -1:])[0, 0]
    stream = residual + torch.cat([last - last.detach(), residual.new_zeros(len(residual) - len(last))])
    return model.finish(stream, branch_learns=depth == "mlp")


@POST_NORM
@pytest.mark.parametrize("depth", ["residual", "mlp"])
def test_the_gradient_is_that_of_the_stream_with_constant_branches(config: ModelConfig, depth: str) -> None:
    """Embeddings of positions are constants too."""
    model, items = model_of(config).requires_grad_(True), sequences(1, 7)
    constants = {id(model.positions.table.weight)} if config.name == "sasrec" else set()
    named = {name: weight for name, weight in model.named_parameters() if id(weight) not in constants}
    pull = torch.linspace(-1, 1, config.width, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(state(model, items, depth) @ pull, list(named.values()), allow_unused=True)
        for state in (along_the_stream, hidden_with_constant_branches)
    )
    moved = set()
    for name, ours, whole in zip(named, found, expected, strict=True):
        ours, whole = (torch.zeros(1) if g is None else g.to_dense() for g in (ours, whole))
        torch.testing.assert_close(ours, whole, msg=lambda text, name=name: f"{name}: {text}")
        if ours.any():
            moved.add(name)
    feeds = {name for name in moved if "linear" in name or "feed_forward" in name}
    assert "items.weight" in moved and any("norm" in name for name in moved)
    assert bool(feeds) == (depth == "mlp")
    assert not any(part in name for name in moved for part in ("self_attn", "mamba."))
