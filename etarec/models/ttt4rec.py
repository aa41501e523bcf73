"""TTT4Rec (Yang, Wang & Ge 2024, arXiv 2409.19142)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.kernels import tokenwise
from etarec.kernels.inner_loop_dual_math import NORM_EPS
from etarec.models.base import SequenceModel
from etarec.ragged import Ragged, asked
from etarec.ttt import TTTLayer


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = F.linear(x, torch.cat((self.gate.weight, self.up.weight))).chunk(2, dim=-1)  # one product is faster
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """x + TTT(RMSNorm(x)), then x + SwiGLU(RMSNorm(x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.ttt_norm, self.mlp_norm = (nn.RMSNorm(config.width, eps=NORM_EPS) for _ in range(2))
        self.ttt = TTTLayer(
            config.width, config.heads, config.inner, config.mini_batch, config.inner_rate, config.rope_base
        )
        self.mlp = SwiGLU(config.width, config.mlp_width)
        self.sizes = tokenwise.Sizes(config.width, config.heads, config.mlp_width, config.mini_batch)

    def forward(
        self, x: Tensor, rate_scale: Tensor | None, inner_loop: bool, since: int, lengths: Tensor | None
    ) -> Tensor:
        if self.takes_ragged(x):
            N, L, _ = x.shape
            asked_for = L - since if lengths is None else 1
            sequences = Ragged.padded(N, L, asked_for, lengths)
            rates = None if rate_scale is None else rate_scale.repeat_interleave(L)
            return self.ragged(sequences, x.flatten(0, 1), rates, inner_loop).unflatten(0, (N, asked_for))
        x = asked(x, since, lengths) + self.ttt(self.ttt_norm(x), rate_scale, inner_loop, since, lengths)
        return x + self.mlp(self.mlp_norm(x))

    def takes_ragged(self, x: Tensor) -> bool:
        return tokenwise.takes(x, self.sizes) and self.ttt.takes_ragged(x)

    def ragged(self, sequences: Ragged, x: Tensor, rate_scale: Tensor | None, inner_loop: bool) -> Tensor:
        """The same of sequences without padding, compiled: [T, D] -> [Q, D]. rate_scale: [T]."""
        ttt, mlp = self.ttt, self.mlp
        q, k, v, rate = (module.weight for module in (ttt.q, ttt.k, ttt.v, ttt.rate))
        weights = tokenwise.Projections(self.ttt_norm.weight, q, k, v, rate, ttt.rate.bias)
        x, q, k, v, rate = tokenwise.before(sequences, x, weights, (ttt.cos, ttt.sin), self.sizes, inner_loop)
        out = ttt.answer_ragged(sequences, q, k, v, rate, rate_scale) if inner_loop else ttt.answer_frozen(q)
        o, mlp_norm, gate, up, down = (m.weight for m in (ttt.o, self.mlp_norm, mlp.gate, mlp.up, mlp.down))
        mixing = tokenwise.Mixing(ttt.post_norm.weight, ttt.post_norm.bias, o, mlp_norm, gate, up, down)
        return tokenwise.after(out, x, mixing, self.sizes)


class TTT4Rec(SequenceModel):
    projection_names: ClassVar[tuple[str, ...]] = ("q", "k", "v", "o")
    has_inner_loop: ClassVar[bool] = True

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.input_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.output_norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.items.weight[0].detach())

    def embed(self, items: Tensor) -> Tensor:
        return self.input_norm(super().embed(items))

    def encode(
        self,
        x: Tensor,
        rate_scale: Tensor | None = None,
        inner_loop: bool = True,
        since: int = 0,
        lengths: Tensor | None = None,
    ) -> Tensor:
        *below, last = self.blocks
        for each in below:
            x = each(x, rate_scale, inner_loop, 0, None)
        return self.output_norm(last(x, rate_scale, inner_loop, since, lengths))

    def takes_ragged(self) -> bool:
        return all(each.takes_ragged(self.items.weight) for each in self._blocks())

    def encode_ragged(self, sequences: Ragged, x: Tensor, rate_scale: Tensor | None, inner_loop: bool) -> Tensor:
        *below, last = self._blocks()
        for each in below:
            x = each.ragged(sequences.asking_everything(), x, rate_scale, inner_loop)
        return self.output_norm(last.ragged(sequences, x, rate_scale, inner_loop))

    def _blocks(self) -> list[Block]:
        return [each for each in self.blocks if isinstance(each, Block)]
