"""Weights trained elsewhere: converted as the page says, they serve as they did there."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from etarec import checkpoint
from etarec.adopt import adopt
from etarec.config import ModelConfig, UserError
from etarec.data import Interactions
from etarec.models import build
from tests.own_package import blocks
from tests.plain_sasrec import PlainSASRec, train

SASREC = ModelConfig(name="sasrec", width=16, heads=2, mlp_width=32, positions=50)


@pytest.fixture
def converted() -> Callable[..., dict[str, Tensor]]:
    """The page's function."""
    names: dict[str, Callable[..., dict[str, Tensor]]] = {}
    exec(blocks("python")[1], names)
    return names["converted"]


def test_weights_trained_elsewhere_give_the_same_states(
    log: Interactions, converted: Callable[..., dict[str, Tensor]], tmp_path
) -> None:
    torch.manual_seed(0)
    theirs = PlainSASRec(log.n_items, 50)
    row_of = {token: row for row, token in enumerate(sorted(log.vocabulary.to_pylist(), reverse=True), start=1)}
    train(theirs, log, row_of)
    rows = [0, *(row_of[token] for token in log.vocabulary.to_pylist())]
    checkpoint.write(adopt(log, SASREC, converted(theirs.state_dict(), rows, 1)), tmp_path / "theirs.safetensors")
    found = checkpoint.read(tmp_path / "theirs.safetensors")
    items = torch.randint(1, log.n_items, (4, 9))
    expected = theirs(torch.tensor(rows)[items])
    torch.testing.assert_close(found.restore(torch.device("cpu"))(items), expected, rtol=0, atol=1e-5)
    assert found.epochs == 0 and found.data_sha256 == log.sha256 and 0 < found.valid["hr_at_10"] < 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"items.weight": torch.zeros(3, 16)}, r"weight items.weight: shape \[3, 16\], expected shape \[71, 16\]"),
        ({"other": torch.zeros(2)}, r"weight other: shape \[2\], expected none"),
        ({"positions.norm.bias": None}, r"weight positions.norm.bias: none, expected shape \[16\]"),
    ],
)
def test_weights_that_do_not_fit_are_named(log: Interactions, change: dict[str, Tensor | None], message: str) -> None:
    weights = {**build(SASREC, log.n_items).state_dict(), **change}
    with pytest.raises(UserError, match=f"^{message}$"):
        adopt(log, SASREC, {name: weight for name, weight in weights.items() if weight is not None})
