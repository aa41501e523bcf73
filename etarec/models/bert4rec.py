"""BERT4Rec (Sun et al. 2019, arXiv 1904.06690): self-attention over both sides, trained to fill in masked items."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from etarec.config import ModelConfig
from etarec.models.base import SequenceModel, normal_weights
from etarec.models.sasrec import Positions, transformer
from etarec.ragged import EVERY_POSITION, OutputPositions


class BERT4Rec(SequenceModel):
    """A prefix is served with a mask behind its last item, whose hidden state is the prefix's."""

    causal: ClassVar[bool] = False
    projection_names: ClassVar[tuple[str, ...]] = ("self_attn",)

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.mask = nn.Parameter(torch.empty(config.width))
        self.positions = Positions(config.positions + 1, config.width, dropout)
        self.blocks = transformer(config, dropout)
        self.output, self.output_norm = nn.Linear(config.width, config.width), nn.LayerNorm(config.width, eps=1e-12)
        normal_weights(self)
        nn.init.normal_(self.mask, std=0.02)

    def embed(self, items: Tensor) -> Tensor:
        return self.items(items)  # dropout follows the positions

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        """The state at a mask behind each sequence's last item, [N, 1, D]; without `lengths` all have L items."""
        N, L, _ = x.shape
        ends = torch.full((N,), L, device=x.device) if outputs.lengths is None else outputs.lengths.to(x.device)
        x = torch.cat([x, x[:, :1]], dim=1)
        masked = torch.arange(L + 1, device=x.device) == ends[:, None]
        return self.fill_in(x, masked, ends + 1)[masked][:, None]

    def fill_in(self, x: Tensor, masked: Tensor, lengths: Tensor) -> Tensor:
        x = torch.where(masked[..., None], self.mask, x)
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]
        states = self.blocks(self.positions(x), src_key_padding_mask=padding)
        return self.output_norm(nn.functional.gelu(self.output(states)))
