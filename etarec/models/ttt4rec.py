"""TTT4Rec (Yang, Wang & Ge 2024, arXiv 2409.19142)."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.kernels import tokenwise
from etarec.kernels.inner_loop_dual_math import NORM_EPS
from etarec.models.base import InnerLoopModel
from etarec.ragged import EVERY_POSITION, OutputPositions, Ragged
from etarec.ttt import INNER_LOOP, InnerOptions, TTTLayer


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
        self,
        x: Tensor,
        outputs: OutputPositions = EVERY_POSITION,
        inner: InnerOptions = INNER_LOOP,
        *,
        residual: bool = False,
    ) -> Tensor:
        """residual: the sum before the SwiGLU."""
        if self.takes_ragged(x):
            return self._in_c(x, outputs, inner, residual)
        x = outputs.of(x) + self.ttt(self.ttt_norm(x), outputs, inner)
        return x if residual else x + self.mlp(self.mlp_norm(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        """x + SwiGLU(RMSNorm(x)): [Q, D] -> [Q, D]."""
        if not tokenwise.takes(x, self.sizes):
            return x + self.mlp(self.mlp_norm(x))
        # In C this is the part after an inner loop that adds nothing, since its output projection is 0.
        norm, nothing = self.ttt.post_norm, torch.zeros_like(self.ttt.o.weight)
        mlp_norm, gate, up, down = (m.weight for m in (self.mlp_norm, self.mlp.gate, self.mlp.up, self.mlp.down))
        mixing = tokenwise.Mixing(norm.weight.detach(), norm.bias.detach(), nothing, mlp_norm, gate, up, down)
        return tokenwise.after(torch.zeros_like(x), x, mixing, self.sizes)

    def takes_ragged(self, x: Tensor) -> bool:
        """Whether `ragged` computes on tensors like x."""
        return tokenwise.takes(x, self.sizes) and self.ttt.takes_ragged(x)

    def _in_c(self, x: Tensor, outputs: OutputPositions, inner: InnerOptions, residual: bool) -> Tensor:
        """`forward` by way of `ragged`."""
        N, L, _ = x.shape
        own = inner.of(torch.arange(N).repeat_interleave(L))
        found = self.ragged(Ragged.padded(N, L, outputs), x.flatten(0, 1), own, residual=residual)
        return found.unflatten(0, (N, outputs.count(L)))

    def ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions, *, residual: bool = False) -> Tensor:
        """`forward` of sequences without padding, in C: [T, D] -> [Q, D]."""
        ttt, mlp = self.ttt, self.mlp
        q, k, v, rate = (module.weight for module in (ttt.q, ttt.k, ttt.v, ttt.rate))
        weights = tokenwise.Projections(self.ttt_norm.weight, q, k, v, rate, ttt.rate.bias)
        x, q, k, v, rate = tokenwise.before(sequences, x, weights, (ttt.cos, ttt.sin), self.sizes, inner.enabled)
        if inner.enabled:
            out = ttt.answer_ragged(sequences, q, k, v, rate, inner.rate_scale)
        else:
            out = ttt.answer_without_inner_loop(q)
        if residual:
            return x + ttt.o(ttt.post_norm(out))
        o, mlp_norm, gate, up, down = (m.weight for m in (ttt.o, self.mlp_norm, mlp.gate, mlp.up, mlp.down))
        mixing = tokenwise.Mixing(ttt.post_norm.weight, ttt.post_norm.bias, o, mlp_norm, gate, up, down)
        return tokenwise.after(out, x, mixing, self.sizes)


class TTT4Rec(InnerLoopModel):
    projection_names: ClassVar[tuple[str, ...]] = ("q", "k", "v", "o")
    shallow_steps: ClassVar[tuple[str, ...]] = ("output", "residual", "mlp")

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

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP) -> Tensor:
        return self.output_norm(self._blocks_of(x, outputs, inner))

    def residual(
        self, x: Tensor, outputs: OutputPositions = EVERY_POSITION, inner: InnerOptions = INNER_LOOP
    ) -> Tensor:
        return self._blocks_of(x, outputs, inner, residual=True)

    def _blocks_of(self, x: Tensor, outputs: OutputPositions, inner: InnerOptions, *, residual: bool = False) -> Tensor:
        *below, last = self.blocks
        for each in below:
            x = each(x, inner=inner)
        return last(x, outputs, inner, residual=residual)

    def finish(self, residual: Tensor, *, branch_learns: bool = True) -> Tensor:
        last = self._blocks()[-1]
        if branch_learns:
            return self.output_norm(last.feed_forward(residual))
        return self.output_norm(residual + (last.feed_forward(residual.detach()) - residual).detach())

    def takes_ragged(self) -> bool:
        return all(each.takes_ragged(self.items.weight) for each in self._blocks())

    def encode_ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions) -> Tensor:
        return self.output_norm(self._blocks_of_ragged(sequences, x, inner))

    def residual_ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions) -> Tensor:
        return self._blocks_of_ragged(sequences, x, inner, residual=True)

    def _blocks_of_ragged(self, sequences: Ragged, x: Tensor, inner: InnerOptions, *, residual: bool = False) -> Tensor:
        *below, last = self._blocks()
        for each in below:
            x = each.ragged(sequences.querying_all(), x, inner)
        return last.ragged(sequences, x, inner, residual=residual)

    def _blocks(self) -> list[Block]:
        return [each for each in self.blocks if isinstance(each, Block)]
