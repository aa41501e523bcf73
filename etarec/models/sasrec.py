"""SASRec (Kang & McAuley 2018, arXiv 1808.09781): causal self-attention, trained with cross-entropy over all items.

The block is the standard transformer encoder's (post-norm, GELU), as in the field's libraries.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from etarec.config import ModelConfig, UserError
from etarec.models.base import SequenceModel, normal_weights
from etarec.models.post_norm import Branches, Layer, follow_stream, parts_of_stream
from etarec.ragged import EVERY_POSITION, OutputPositions

NORM_EPS = 1e-12


def transformer(config: ModelConfig, dropout: float) -> nn.TransformerEncoder:
    """Blocks of self-attention and feed-forward layers, [N, L, D] -> [N, L, D]."""
    block = nn.TransformerEncoderLayer(
        config.width, config.heads, config.mlp_width, dropout, "gelu", NORM_EPS, batch_first=True
    )
    return nn.TransformerEncoder(block, config.blocks, enable_nested_tensor=False)


class Positions(nn.Module):
    """Learned position embeddings, then LayerNorm and dropout: [N, L, D] -> [N, L, D]."""

    def __init__(self, positions: int, width: int, dropout: float):
        super().__init__()
        self.table = nn.Embedding(positions, width)
        self.norm, self.dropout = nn.LayerNorm(width, eps=NORM_EPS), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.norm(self.placed(x)))

    def placed(self, x: Tensor) -> Tensor:
        """x with the embeddings of its positions added."""
        length, places = x.shape[1], self.table.num_embeddings
        if length > places:
            raise UserError(f"model.positions: {places} places for {length} items; expected data.max_length or more")
        return x + self.table.weight[:length]


class SASRec(SequenceModel):
    """Along the residual stream, the embeddings of positions are constants."""

    projection_names: ClassVar[tuple[str, ...]] = ("self_attn",)
    shallow_steps: ClassVar[tuple[str, ...]] = ("output", "residual", "mlp")

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.positions = Positions(config.positions, config.width, dropout)
        self.blocks = transformer(config, dropout)
        normal_weights(self)

    def embed(self, items: Tensor) -> Tensor:
        return self.items(items)  # dropout follows the positions

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        return outputs.of(self.blocks(self.positions(x), mask=later_positions(x), is_causal=True))

    def residual(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        return parts_of_stream(self.positions.placed(x), self.positions.norm, self._branches(), outputs)

    def finish(self, residual: Tensor, *, branch_learns: bool = True) -> Tensor:
        return follow_stream(residual, self.positions.norm, self._branches(), branch_learns=branch_learns)

    def _branches(self) -> list[Branches]:
        layers = [each for each in self.blocks.layers if isinstance(each, nn.TransformerEncoderLayer)]
        return [Branches(_attention(each), each.norm1, _feed_forward(each), each.norm2) for each in layers]


def later_positions(x: Tensor) -> Tensor:
    """bool[L, L] for x [N, L, D]: whether the column's position lies behind the row's."""
    L = x.shape[1]
    return torch.ones(L, L, dtype=torch.bool, device=x.device).triu(1)


def _attention(layer: nn.TransformerEncoderLayer) -> Layer:
    def attend(x: Tensor) -> Tensor:
        mask = later_positions(x)
        attended: Tensor = layer.self_attn(x, x, x, attn_mask=mask, is_causal=True, need_weights=False)[0]
        return attended

    return attend


def _feed_forward(layer: nn.TransformerEncoderLayer) -> Layer:
    return lambda x: layer.linear2(layer.activation(layer.linear1(x)))
