"""A gate of the user's own, `adapt: {gate: "package.module:Class", gate_options: {...}}`, in front of a backward pass.

The class is built as `Class(options, seed)`, once per measurement, so what it keeps lives for one stream. It needs
`judge(batch) -> Decision`, which is called with one batch after another in the order of the stream. It may have

- `top_k`, int: the number of largest scores that it looks at, on the class or the instance (default 0: none);
- `needs_losses`, bool, on the class: whether it looks at losses, which target `weights` with `next_item` has;
- `Options`, a dataclass: names, types and defaults of `gate_options`;
- `state_dict() -> dict[str, Tensor]` and `load_state_dict(tensors)`, as modules of torch have: what it keeps from batch
  to batch. A gate that keeps anything needs them to be served (docs/serving.md), where its state is saved and restored.

A batch is judged before any of its targets teaches anything, and every gate gets the same batches.

Symbols: B samples of a batch, D width, V items without the padding id, K = min(top_k, V).
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.config import AdaptConfig, Reason, UserError
from etarec.document_schema import Location
from etarec.gate import Batch, Decision, Gate
from etarec.own import UnusableError, load, options_of

SECTION: Location = ("adapt",)
TRIED = (4, 8)  # samples, width of the made-up batch by which a class is tried
REASONS = frozenset(int(reason) for reason in Reason if reason >= Reason.ADMITTED)


class OwnGate(Protocol):
    """The gate that the user's class implements."""

    def judge(self, batch: Batch) -> Decision:
        """Reasons int8[B]: `Reason.ADMITTED`, or why the pass is skipped, usually `Reason.OWN`; and weights [B] of the
        losses of admitted samples, if they are not all 1. `etarec.gate.decide` makes reasons of one test."""


class Judging(Gate):
    """The gate of the user's class in the place of the product's own."""

    def __init__(self, config: AdaptConfig, seed: int):
        super().__init__(config, seed)
        assert config.own_gate is not None
        self.own = build(config.own_gate, config.gate_options, seed)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, values = super().snapshot()
        own = self.own.state_dict() if hasattr(self.own, "state_dict") else {}
        return tensors | {f"own.{name}": tensor for name, tensor in own.items()}, values

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        super().restore(tensors, values)
        if hasattr(self.own, "load_state_dict"):
            own = {name: tensor for name, tensor in tensors.items() if name.startswith("own.")}
            self.own.load_state_dict({name.removeprefix("own."): tensor.clone() for name, tensor in own.items()})

    @property
    def needs_losses(self) -> bool:
        return bool(getattr(self.own, "needs_losses", False)) and self.config.learns_next_item

    def scores_needed(self, n_items: int) -> int:
        return min(int(getattr(self.own, "top_k", 0)), n_items)

    def ignores(self, nothing_to_learn: npt.NDArray[np.bool_]) -> bool:
        return False

    def judge(self, batch: Batch) -> Decision:
        return _checked(self.own.judge(batch), batch)


def gate_of(config: AdaptConfig, seed: int) -> Gate:
    """The gate of a configuration. Raises UserError if a class of the user's own cannot be used."""
    return Judging(config, seed) if config.own_gate else Gate(config, seed)


def build(path: str, options: Mapping[str, Any], seed: int, section: Location = SECTION) -> OwnGate:
    """An instance of the class at `path`. Raises UnusableError where it cannot be made."""
    place = (*section, "gate")
    cls: Any = load(path, place)
    if not callable(getattr(cls, "judge", None)):
        raise UnusableError(place, f"{path} has no judge; expected what etarec.own_gate describes")
    own = options_of(cls, options, (*section, "gate_options"))
    try:
        gate: OwnGate = cls(own, seed)
    except Exception as error:  # the constructor is the user's code
        expected = "expected a constructor (options, seed)"
        problem = f"{path} cannot be built with adapt.gate_options ({type(error).__name__}: {error}); {expected}"
        raise UnusableError(place, problem) from error
    return gate


def check(config: AdaptConfig, section: Location = SECTION) -> None:
    """Try a gate of the user's own on a made-up batch. Raises UnusableError, which names the key below `section`."""
    if config.own_gate is None:
        return
    place, gate = (*section, "gate"), build(config.own_gate, config.gate_options, 0, section)
    if getattr(gate, "needs_losses", False) and not (config.learns_next_item or config.target == "none"):
        raise UnusableError(place, f"{config.own_gate} needs losses; expected target: weights, objective: next_item")
    try:
        batch = _made_up(int(getattr(gate, "top_k", 0)), bool(getattr(gate, "needs_losses", False)))
        _checked(gate.judge(batch), batch)
    except UserError as error:
        raise UnusableError(place, f"{config.own_gate}: {error}") from error
    except Exception as error:  # `judge` is the user's code
        problem = f"{config.own_gate}: judge raised {type(error).__name__}: {error}, on a made-up batch"
        raise UnusableError(place, problem) from error


def _made_up(top_k: int, losses: bool) -> Batch:
    size, width = TRIED
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(size, width, generator=random)
    vectors = torch.randn(max(top_k, 2) + 1, width, generator=random)
    scan = scoring.scan(hidden, vectors, torch.zeros(size, dtype=torch.long), top_k, losses)
    nothing = torch.arange(size) == 0
    own = scan.losses.masked_fill(nothing, torch.nan) if scan.losses is not None else None
    return Batch(hidden, vectors, scan.top_scores, scan.top_items, own, nothing)


def _checked(decision: Decision, batch: Batch) -> Decision:
    """The decision without samples that have nothing to learn, with a weight for each sample.

    Raises UserError for a decision of another form.
    """
    size = len(batch.hidden)
    if not isinstance(decision, Decision):
        raise UserError(f"judge returned {type(decision).__name__}, expected an etarec.gate.Decision")
    reasons, weights = decision.reasons, decision.weights
    if tuple(reasons.shape) != (size,) or not set(reasons.unique().tolist()) <= REASONS:
        raise UserError(f"judge gave other reasons than values of Reason, one for each of {size} samples")
    if weights is not None and (
        tuple(weights.shape) != (size,) or not bool(weights[decision.admitted].isfinite().all())
    ):
        raise UserError(
            f"judge gave weights {list(weights.shape)}, expected a finite number for each of {size} samples"
        )
    taught = reasons.to(torch.int8).masked_fill(batch.nothing_to_learn, Reason.NOTHING_TO_LEARN)
    return Decision(taught, torch.ones_like(batch.hidden[:, 0]) if weights is None else weights.to(batch.hidden))
