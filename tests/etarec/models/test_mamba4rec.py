"""Mamba4Rec against its paper's formulas."""

import math

import torch
from small_models import MAMBA4REC, gelu, layer_norm, model_of, sequences
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.models import build
from etarec.models.mamba4rec import selective_scan


def test_mamba4rec_is_the_selective_state_space():
    model, items = model_of(MAMBA4REC), sequences(1, 7)
    x = layer_norm(model.items.weight[items[0]], model.input_norm)
    for block in model.blocks:
        mamba, outputs = block.mamba, []
        inner, gate = (x @ mamba.in_proj.weight.T).chunk(2, dim=-1)
        padded = F.pad(inner, (0, 0, 3, 0))
        h = torch.zeros(16, 3, dtype=torch.float64)
        for t in range(7):
            u = F.silu((padded[t : t + 4] * mamba.conv.weight[:, 0].T).sum(0) + mamba.conv.bias)
            rank, B, C = (mamba.x_proj.weight @ u).split([1, 3, 3])
            step = torch.log1p(torch.exp(mamba.dt_proj.weight @ rank + mamba.dt_proj.bias))
            for channel in range(16):
                for s in range(3):
                    decay = torch.exp(-step[channel] * torch.exp(mamba.A_log[channel, s]))
                    h[channel, s] = decay * h[channel, s] + step[channel] * B[s] * u[channel]
            outputs.append(mamba.out_proj.weight @ ((h @ C + mamba.skip * u) * F.silu(gate[t])))
        x = layer_norm(x + torch.stack(outputs), block.mamba_norm)
        first, second = block.feed_forward[0], block.feed_forward[3]
        x = layer_norm(x + second(gelu(first(x))), block.output_norm)
    torch.testing.assert_close(model(items)[0], x)


def test_a_selective_scan_with_constant_inputs_is_a_geometric_series():
    """h_t = a h_{t-1} + step b, so y_t = c step b (1 - a^t) / (1 - a)."""
    one = torch.ones(1, 20, 1, dtype=torch.float64)
    y = selective_scan(one, 0.5 * one, torch.tensor([[-2.0]], dtype=torch.float64), 3 * one, 7 * one)
    a = math.exp(-1)
    expected = [7 * 0.5 * 3 * (1 - a**t) / (1 - a) for t in range(1, 21)]
    torch.testing.assert_close(y.flatten(), torch.tensor(expected, dtype=torch.float64))


def test_mambas_first_steps_lie_where_the_paper_puts_them():
    steps = F.softplus(build(ModelConfig(name="mamba4rec"), 30).blocks[0].mamba.dt_proj.bias.detach())
    assert 1e-3 <= float(steps.min()) < 5e-3 and 2e-2 < float(steps.max()) <= 0.1
