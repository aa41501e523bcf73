"""Mamba4Rec (Liu et al. 2024, arXiv 2403.03900): selective state spaces (Gu & Dao 2023, arXiv 2312.00752).

Symbols: N sequences, L positions, D width, E = 2 D channels, S states per channel.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.models.base import SequenceModel, normal_weights
from etarec.models.post_norm import Branches, follow_stream, parts_of_stream
from etarec.ragged import EVERY_POSITION, OutputPositions

try:  # the authors' CUDA kernel, where it is installed
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn as fused_scan
except ImportError:
    fused_scan = None

EXPAND, KERNEL = 2, 4  # E / D, and the width of the causal convolution
STEP_SIZES = (1e-3, 1e-1)  # range of the discretisation's initial steps, drawn log-uniformly


def selective_scan(x: Tensor, step: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """h_t = exp(step_t A) h_{t-1} + step_t x_t B_t, y_t = C_t . h_t (arXiv 2312.00752, algorithm 2).

    x, step: [N, L, E]; A: [E, S]; B, C: [N, L, S] -> y [N, L, E].
    """
    state = x.new_zeros(x.shape[0], *A.shape)
    outputs = []
    for x_t, step_t, B_t, C_t in zip(*(part.unbind(1) for part in (x, step, B, C)), strict=True):
        state = (step_t[..., None] * A).exp() * state + (step_t * x_t)[..., None] * B_t[:, None]
        outputs.append((state @ C_t[..., None])[..., 0])
    return torch.stack(outputs, dim=1)


class Mamba(nn.Module):
    """The selective state-space layer, [N, L, D] -> [N, L, D], causal."""

    def __init__(self, width: int, states: int):
        super().__init__()
        self.channels, self.rank, self.states = EXPAND * width, math.ceil(width / 16), states
        self.in_proj = nn.Linear(width, 2 * self.channels, bias=False)
        self.conv = nn.Conv1d(self.channels, self.channels, KERNEL, groups=self.channels, padding=KERNEL - 1)
        self.x_proj = nn.Linear(self.channels, self.rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(self.rank, self.channels)
        self.A_log = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(self.channels, 1))
        self.skip = nn.Parameter(torch.ones(self.channels))
        self.out_proj = nn.Linear(self.channels, width, bias=False)

    def initialise(self) -> None:
        """Draws the initial step sizes as the paper's appendix says."""
        nn.init.uniform_(self.dt_proj.weight, -(self.rank**-0.5), self.rank**-0.5)
        low, high = (math.log(size) for size in STEP_SIZES)
        step = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp()
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + (-torch.expm1(-step)).log())  # the inverse of softplus

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.in_proj(x).chunk(2, dim=-1)
        x = F.silu(self.conv(x.mT)[..., : x.shape[1]].mT)
        step, B, C = self.x_proj(x).split([self.rank, self.states, self.states], dim=-1)
        step, A = F.softplus(self.dt_proj(step)), -self.A_log.exp()
        if fused_scan is not None and x.is_cuda:
            y = fused_scan(*(part.mT.contiguous() for part in (x, step)), A, B.mT.contiguous(), C.mT.contiguous()).mT
        else:
            y = selective_scan(x, step, A, B, C)
        return self.out_proj((y + self.skip * x) * F.silu(gate))


class Block(nn.Module):
    """LN(x + dropout(Mamba(x))), then LN(x + feed-forward(x))."""

    def __init__(self, config: ModelConfig, dropout: float):
        super().__init__()
        self.mamba = Mamba(config.width, config.state_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(config.width, config.mlp_width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(config.mlp_width, config.width),
            nn.Dropout(dropout),
        )
        self.mamba_norm, self.output_norm = (nn.LayerNorm(config.width, eps=1e-12) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mamba_norm(x + self.dropout(self.mamba(x)))
        return self.output_norm(x + self.feed_forward(x))


class Mamba4Rec(SequenceModel):
    projection_names: ClassVar[tuple[str, ...]] = ("in_proj", "x_proj", "dt_proj", "out_proj")
    shallow_steps: ClassVar[tuple[str, ...]] = ("output", "residual", "mlp")

    def __init__(self, config: ModelConfig, n_items: int, dropout: float):
        super().__init__(config, n_items, dropout)
        self.input_norm = nn.LayerNorm(config.width, eps=1e-12)
        self.blocks = nn.Sequential(*(Block(config, dropout) for _ in range(config.blocks)))
        normal_weights(self)
        for module in self.modules():
            if isinstance(module, Mamba):
                module.initialise()

    def embed(self, items: Tensor) -> Tensor:
        return self.input_norm(super().embed(items))

    def encode(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        return outputs.of(self.blocks(x))

    def residual(self, x: Tensor, outputs: OutputPositions = EVERY_POSITION) -> Tensor:
        return parts_of_stream(x, nn.Identity(), self._branches(), outputs)

    def finish(self, residual: Tensor, *, branch_learns: bool = True) -> Tensor:
        return follow_stream(residual, nn.Identity(), self._branches(), branch_learns=branch_learns)

    def _branches(self) -> list[Branches]:
        blocks = [each for each in self.blocks if isinstance(each, Block)]
        return [Branches(each.mamba, each.mamba_norm, each.feed_forward, each.output_norm) for each in blocks]
