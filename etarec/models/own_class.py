"""A model of the user's own: its class, an instance of it, and a trial of what base.py asks of a model.

Symbols: N sequences, L positions, D width.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from etarec.config import UserError
from etarec.document_schema import Location
from etarec.models.base import SequenceModel
from etarec.own import UnusableError, load, options_of
from etarec.ragged import OutputPositions

SECTION: Location = ("model",)
PROTOCOL = ("embed", "encode", "item_vectors", "adaptable", "causal", "shallow_steps")
TRIED_ITEMS = 6  # catalogue of the instance that is tried, padding included
TOLERANCE = 1e-5  # of the largest state: rounding of sums in another order


def class_of(path: str, section: Location) -> type[SequenceModel]:
    """The class at `path`. Raises UnusableError if it is no module, or lacks something of base.py."""
    place = (*section, "class")
    found = load(path, place)
    if not issubclass(found, nn.Module):
        raise UnusableError(place, f"given {path}, which is no torch.nn.Module, expected one")
    own = ("encode",) if getattr(found, "causal", True) else ("encode", "fill_in")
    missing = [name for name in PROTOCOL if not hasattr(found, name)]
    missing += [name for name in own if getattr(found, name, None) is getattr(SequenceModel, name)]
    if missing:
        raise UnusableError(place, f"{path} has no {', '.join(missing)}; expected what etarec.models.base describes")
    return cast(type[SequenceModel], found)


def build(
    path: str, options: Mapping[str, Any], n_items: int, dropout: float, section: Location = SECTION
) -> SequenceModel:
    """An instance of the class at `path`. Raises UnusableError where it cannot be made."""
    cls = class_of(path, section)
    own = cast(Any, options_of(cls, options, (*section, "options")))
    try:
        return cls(own, n_items, dropout)
    except UserError:
        raise
    except Exception as error:  # the constructor is the user's code
        raise UnusableError(
            (*section, "class"),
            f"{path} cannot be built with model.options ({type(error).__name__}: {error}); expected a constructor "
            "(options, n_items, dropout)",
        ) from error


@torch.no_grad()
def check(path: str, options: Mapping[str, Any], section: Location) -> None:
    """Try a small instance. Raises UnusableError for the first rule of base.py that it breaks."""
    with torch.random.fork_rng(devices=[]):
        model = build(path, options, TRIED_ITEMS, 0.0, section).eval()
    try:
        problem = _table_problem(model) or (_causal_problem(model) if model.causal else _two_sided_problem(model))
    except Exception as error:  # a pass is the user's code
        problem = f"a pass over two short sequences raised {type(error).__name__}: {error}"
    if problem:
        raise UnusableError((*section, "class"), f"{path}: {problem}")


def _table_problem(model: SequenceModel) -> str:
    table = dict(model.named_parameters()).get("items.weight")
    if table is None or table.dim() != 2 or len(table) != TRIED_ITEMS:
        return "expected `items`, an nn.Embedding with a row for each of n_items, padding included"
    if tuple(model.item_vectors.shape) != (TRIED_ITEMS - 1, table.shape[1]):
        return "expected `item_vectors` to be the rows of `items` behind the padding"
    return ""


def _causal_problem(model: SequenceModel) -> str:
    items = torch.tensor([[1, 2, 3], [4, 1, 0]])
    later = torch.tensor([[1, 2, 5], [4, 1, 2]])
    states, width = model(items), model.item_vectors.shape[1]
    if tuple(states.shape) != (2, 3, width):
        return f"a pass over items int[2, 3] gave {list(states.shape)}, expected hidden states [2, 3, {width}]"
    if not _same(model(later)[:, :2], states[:, :2]):
        return "causal, but a state depends on items behind it; expected a causal mask, or `causal = False`"
    x = model.embed(items)
    if not _same(model.encode(x, OutputPositions(1)), states[:, 1:]):
        return "`encode` ignores `outputs.since`; expected `return outputs.of(states)`"
    last = model.encode(x, OutputPositions(lengths=torch.tensor([3, 2])))
    return (
        ""
        if _same(last[:, 0], states[[0, 1], [2, 1]])
        else ("`encode` ignores `outputs.lengths`; expected `return outputs.of(states)`")
    )


def _two_sided_problem(model: SequenceModel) -> str:
    items, width = torch.tensor([[1, 2, 3], [4, 1, 0]]), model.item_vectors.shape[1]
    states = model.encode(model.embed(items), OutputPositions(lengths=torch.tensor([3, 2])))
    if tuple(states.shape) != (2, 1, width):
        return f"`encode` with `outputs.lengths` gave {list(states.shape)}, expected one state each, [2, 1, {width}]"
    alone = model.encode(model.embed(items[1:, :2]), OutputPositions(lengths=torch.tensor([2])))
    if not _same(alone, states[1:]):
        return "a state depends on the padding behind a sequence; expected it to be masked by `outputs.lengths`"
    filled = model.fill_in(model.embed(items), items == 1, torch.tensor([3, 2]))
    return (
        ""
        if tuple(filled.shape) == (2, 3, width)
        else (f"`fill_in` gave {list(filled.shape)}, expected hidden states [2, 3, {width}]")
    )


def _same(found: Tensor, expected: Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    return bool(torch.allclose(found, expected, rtol=0, atol=TOLERANCE * float(expected.abs().max())))
