"""SASRec (Kang & McAuley 2018, arXiv 1808.09781): causal self-attention, trained with cross-entropy over all items.

The block is the standard transformer encoder's (post-norm, GELU), as in the field's libraries.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from etarec.config import ModelConfig, UserError
from etarec.models.base import SequenceModel, normal_weights
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
        length, places = x.shape[1], self.table.num_embeddings
        if length > places:
            raise UserError(f"model.positions: {places} places for {length} items; expected data.max_length or more")
        return self.dropout(self.norm(x + self.table.weight[:length]))


class SASRec(SequenceModel):
    projection_names: ClassVar[tuple[str, ...]] = ("self_attn",)

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.positions = Positions(config.positions, config.width, dropout)
        self.blocks = transformer(config, dropout)
        normal_weights(self)

    def embed(self, items: Tensor) -> Tensor:
        return self.items(items)  # dropout follows the positions

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        L = x.shape[1]
        later = torch.ones(L, L, dtype=torch.bool, device=x.device).triu(1)
        return outputs.of(self.blocks(self.positions(x), mask=later, is_causal=True))
