"""The adapters of test-time adaptation: a batch goes in, its ranks and the gate's decision come out.

One file per value of `adapt.target`: `none`, `state`, `weights`. `weights` learns what `ranking` has ranked: `losses`
has the losses of a step, `moving_weights` takes it. `shared_passes` computes once what all trials share.

Symbols: B samples of a batch.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from etarec import own_gate
from etarec.adapt.learned import Learned
from etarec.adapt.memory import Marks, Snapshot
from etarec.adapt.none import NoAdaptation
from etarec.adapt.shared_passes import SharedPasses
from etarec.adapt.state import State
from etarec.adapt.weights import Weights
from etarec.clock import Clock
from etarec.config import AdaptConfig, UserError
from etarec.data import Stream
from etarec.encode import Encoder
from etarec.gate import Decision
from etarec.models import InnerLoopModel, SequenceModel


class Adapter(Protocol):
    """Serves the batches of a stream in order."""

    learned: Learned
    show: Callable[[Tensor], None]  # given the states [B, D] by which a batch is ranked, the last call being final

    def serve(self, rows: slice) -> tuple[Tensor, Decision]:
        """Ranks int[B] of the batch's targets, and what the gate decided. rows: the batch's places in the stream."""

    def hidden(self, rows: slice) -> Tensor:
        """Hidden states of the batch's inputs with the present weights: [B, D]."""

    def follow(self, encoder: Encoder, stream: Stream, marks: Marks) -> None:
        """Go on with another stream, which is a single batch, as if its samples came next.

        marks: of the interactions of `encoder`, as `marks` gave them after an earlier batch.
        """

    def marks(self) -> Marks:
        """The marks of the interactions of the present stream."""

    def snapshot(self) -> Snapshot:
        """A copy of everything that later batches depend on, besides the marks of interactions."""

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of an adapter with the same configuration and checkpoint."""


def build(
    config: AdaptConfig,
    model: SequenceModel,
    encoder: Encoder,
    stream: Stream,
    clock: Clock,
    seed: int,
    shared: SharedPasses | None = None,
) -> Adapter:
    """The adapter of a configuration for a stream. Target `weights` changes the model in place.

    shared: passes of this stream and model, which the adapter looks up instead of computing them.

    Raises UserError for an adaptation or a gate that the model or the configuration does not offer.
    """
    if config.target == "state" and not isinstance(model, InnerLoopModel):
        raise UserError(
            f"adapt.target: given state, but {type(model).__name__} has no inner loop to adapt; expected weights"
        )
    if config.target == "weights" and config.filtered not in ("nothing", *model.shallow_steps):
        raise UserError(
            f"adapt.filtered: given {config.filtered}, but {type(model).__name__} has no residual stream from the last "
            f"item to the output; expected nothing or {' or '.join(model.shallow_steps)}"
        )
    if config.target == "weights" and not model.adaptable(config.parameters):
        raise UserError(
            f"adapt.parameters: given {config.parameters}, but {type(model).__name__} has no such weights; expected all"
        )
    own_gate.check(config)
    model.eval()
    kinds: dict[str, type[NoAdaptation]] = {"none": NoAdaptation, "state": State, "weights": Weights}
    return kinds[config.target](config, model, encoder, stream, clock, seed, shared)
