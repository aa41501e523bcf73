"""The interface of every recommender: hidden states of item sequences, and groups of weights that may adapt.

A model of the user's own (`model: {class: package.module:Class, options: {...}}`) is a subclass of `SequenceModel`, or
any other `nn.Module` with its attributes. It is built as `Class(options, n_items, dropout)` and needs:

- `items`: an `nn.Embedding` of V rows and width D, row 0 for the padding; `item_vectors`: its other rows;
- `embed` and `encode`, whose composition gives hidden states at wanted positions; `forward` is that composition;
- `causal`; a model that is not causal also has `fill_in`, by which it is trained;
- `adaptable`: the weights of each group of `adapt.parameters`; `shallow_steps`, and `residual` and `finish` where
  they go further than `output`.

`SequenceModel` has all of it but `encode`, and names groups by `projection_names`. `etarec/models/own_class.py` tries a
small instance of the class before anything is trained.

Symbols: N sequences, L positions, T tokens and Q queries of sequences without padding, D width, V items including the
padding id 0.
"""

from typing import ClassVar, Protocol

from torch import Tensor, nn

from etarec.ragged import EVERY_POSITION, OutputPositions, Ragged
from etarec.ttt import INNER_LOOP, InnerOptions


class Sized(Protocol):
    """The sizes of a model: a ModelConfig, or the options of a model of the user's own."""

    @property
    def width(self) -> int:
        """D, width of embeddings and hidden states."""


class SequenceModel(nn.Module):
    """A model whose scores are hidden . item embedding (tied).

    A causal model's state at a position depends only on the items up to it, so one pass over a sequence, padded on the
    right, serves all its prefixes. A model that is not causal gets each prefix by itself, with `outputs.lengths`.
    """

    projection_names: ClassVar[tuple[str, ...]] = ()  # name parts of the weights that `parameters: projections` adapts
    causal: ClassVar[bool] = True
    shallow_steps: ClassVar[tuple[str, ...]] = ("output",)  # values of `adapt.filtered` that the model offers

    def __init__(self, config: Sized, n_items: int, dropout: float):
        super().__init__()
        self.config = config
        # A dense gradient would be an array of zeros over all items beside the loss's, in every step.
        self.items = nn.Embedding(n_items, config.width, padding_idx=0, sparse=True)
        self.dropout = nn.Dropout(dropout)

    @property
    def item_vectors(self) -> Tensor:
        """[V-1, D]: the embeddings of the real items; row i belongs to item code i + 1."""
        return self.items.weight[1:]

    def forward(self, items: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        """Hidden states at the wanted positions of items int[N, L], padded with 0 on the right: [N, outputs, D]."""
        return self.encode(self.embed(items), outputs)

    def embed(self, items: Tensor) -> Tensor:
        """The part of the model that sees each item by itself: int[...] -> [..., D]."""
        return self.dropout(self.items(items))

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        """The part that sees sequences: embedded items [N, L, D] -> hidden states at the wanted positions."""
        raise NotImplementedError

    def fill_in(self, x: Tensor, masked: Tensor, lengths: Tensor) -> Tensor:
        """For models that are not causal: hidden states [N, L, D] of embedded items [N, L, D], with a mask in place of
        those `masked`, bool[N, L]. Training predicts the masked items from them.

        lengths: int[N]; positions behind them are padding.
        """
        raise NotImplementedError

    def residual(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        """`encode` up to the last feed-forward layer; `finish` does the rest: [N, L, D] -> [N, outputs, P D].

        The first D of the P D columns are a point of the residual stream, to which the gradient at x is passed on; the
        others are constants that `finish` needs. For models whose `shallow_steps` go further than the output.
        """
        raise NotImplementedError

    def finish(self, residual: Tensor, *, branch_learns: bool = True) -> Tensor:
        """Hidden states from the values of `residual`: [..., P D] -> [..., D].

        branch_learns: whether the gradient enters the last feed-forward layer; otherwise it goes back along the
        residual stream alone.
        """
        raise NotImplementedError

    def adaptable(self, group: str) -> list[nn.Parameter]:
        """The weights of `adapt.parameters`: projections, body (all but the item embeddings) or all."""
        named = dict(self.named_parameters())
        if group == "projections":
            return [p for name, p in named.items() if not set(self.projection_names).isdisjoint(name.split("."))]
        if group == "body":
            named.pop("items.weight")
        return list(named.values())


class InnerLoopModel(SequenceModel):
    """A model with TTT layers, whose inner loop `adapt.target: state` switches and weighs."""

    def forward(
        self, items: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP
    ) -> Tensor:
        return self.encode(self.embed(items), outputs, inner)

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP) -> Tensor:
        raise NotImplementedError

    def residual(
        self, x: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP
    ) -> Tensor:
        raise NotImplementedError

    def takes_ragged(self) -> bool:
        """Whether `encode_ragged` computes with the present weights and threads; `encode` always does."""
        return False

    def encode_ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions) -> Tensor:
        """`encode` of sequences without padding: embedded items [T, D] -> states of the queries [Q, D]."""
        raise NotImplementedError

    def residual_ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions) -> Tensor:
        """`residual` of sequences without padding: embedded items [T, D] -> [Q, P D]."""
        raise NotImplementedError


def normal_weights(model: SequenceModel) -> None:
    """Initialises every matrix with N(0, 0.02), biases and the padding's embedding with 0, as in BERT."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            nn.init.normal_(module.in_proj_weight, std=0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
    nn.init.zeros_(model.items.weight.detach()[0])
