"""What every recommender offers: hidden states of item sequences, and groups of weights that may adapt.

Symbols: N sequences, L positions, D width, V items including the padding id 0.
"""

from typing import ClassVar

from torch import Tensor, nn

from etarec.config import ModelConfig
from etarec.ragged import Ragged


class SequenceModel(nn.Module):
    """A model whose scores are hidden . item embedding (tied).

    Causal: the hidden state at a position depends on the items up to it only, so that one pass over a sequence, padded
    on the right, serves all its prefixes. A model that is not is given each prefix by itself, with `lengths`.
    """

    projection_names: ClassVar[tuple[str, ...]]  # name parts of the weights that `parameters: projections` adapts
    causal: ClassVar[bool] = True
    has_inner_loop: ClassVar[bool] = False  # fast weights, which `adapt.target: state` switches and weighs

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__()
        self.config = config
        # A dense gradient would be an array of zeros over all items beside the loss's, in every step.
        self.items = nn.Embedding(n_items, config.width, padding_idx=0, sparse=True)
        self.dropout = nn.Dropout(dropout)

    @property
    def item_vectors(self) -> Tensor:
        """[V-1, D]: the embeddings of the real items; row i belongs to item code i + 1."""
        return self.items.weight[1:]

    def forward(
        self, items: Tensor, rate_scale: Tensor | None = None, inner_loop: bool = True, since: int = 0
    ) -> Tensor:
        """items: int[N, L], padded with 0 on the right -> hidden states [N, L - since, D], those from `since` on.

        rate_scale and inner_loop steer the inner loop of models that have one, see `TTTLayer.forward`; others take no
        notice.
        """
        return self.encode(self.embed(items), rate_scale, inner_loop, since)

    def embed(self, items: Tensor) -> Tensor:
        """What happens to each item by itself: int[...] -> [..., D]."""
        return self.dropout(self.items(items))

    def encode(
        self,
        x: Tensor,
        rate_scale: Tensor | None = None,
        inner_loop: bool = True,
        since: int = 0,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """What happens to a sequence of embedded items [N, L, D]; see `forward`.

        lengths: int[N] on the CPU, descending: only the state at each sequence's own last item is wanted, [N, 1, D].
        """
        raise NotImplementedError

    def takes_ragged(self) -> bool:
        """Whether `encode_ragged` computes, here and now; `encode` always does."""
        return False

    def encode_ragged(self, sequences: Ragged, x: Tensor, rate_scale: Tensor | None, inner_loop: bool) -> Tensor:
        """What `encode` does, to items [T, D] of sequences without padding: the states of its Q queries, [Q, D].

        rate_scale: [T], of each token the scale of its sequence.
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


def normal_weights(model: SequenceModel) -> None:
    """N(0, 0.02) in every matrix, 0 in every bias and in the padding's embedding, as BERT and its followers start."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            nn.init.normal_(module.in_proj_weight, std=0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
    nn.init.zeros_(model.items.weight.detach()[0])
