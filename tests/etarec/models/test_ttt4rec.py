"""TTT4Rec against its paper's formulas."""

import pytest
import torch
from small_models import TTT4REC, assert_one_pass_serves_every_prefix, model_of, sequences
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.models import build
from etarec.ttt import WITHOUT_INNER_LOOP, InnerOptions

CONFIGS = pytest.mark.parametrize(
    "config",
    [TTT4REC, ModelConfig(width=16, heads=4, mini_batch=3, mlp_width=8, inner="linear", blocks=3)],
    ids=["mlp", "linear, 3 blocks"],
)


def test_published_configuration_has_the_published_size():
    V, D, F_, M, hidden = 10_673, 64, 16, 8, 256
    fast = 4 * (F_ * 4 * F_ + 4 * F_ + 4 * F_ * F_ + F_)
    ttt = 4 * D * D + fast + 2 * 4 * F_ + (4 * D + 4) + M + 2 * D
    expected = V * D + 2 * D + ttt + 3 * D * hidden + 2 * D + D
    assert sum(parameter.numel() for parameter in build(ModelConfig(), V).parameters()) == expected == 757_964


def test_initial_values_are_the_published_ones():
    torch.manual_seed(0)
    for name, weight in build(ModelConfig(), 2_000).requires_grad_(False).named_parameters():
        if name.endswith("norm.weight") or name.endswith("inner_norm_weight"):
            assert (weight == 1).all(), name
        elif "bias" in name or name.endswith("decay_offset"):
            assert (weight == 0).all(), name
        else:
            assert float(weight.std()) == pytest.approx(0.02, rel=0.15), name
            assert abs(float(weight.mean())) < 0.003, name
            assert name != "items.weight" or ((weight[0] == 0).all() and (weight[1:] != 0).any(1).all())


@CONFIGS
def test_forward_is_the_papers(config):
    model, items = model_of(config), sequences(3, 10)
    e = model.items.weight[items]
    x = F.layer_norm(e, (16,), model.input_norm.weight, model.input_norm.bias, eps=1e-12)

    def rms(z, norm):
        return z / (z.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight

    for block in model.blocks:
        x = x + block.ttt(rms(x, block.ttt_norm))
        z = rms(x, block.mlp_norm)
        x = x + (F.silu(z @ block.mlp.gate.weight.T) * (z @ block.mlp.up.weight.T)) @ block.mlp.down.weight.T
    torch.testing.assert_close(model(items), rms(x, model.output_norm), rtol=1e-10, atol=1e-12)
    assert len(model.blocks) == config.blocks


@CONFIGS
def test_one_pass_serves_every_prefix_whatever_stands_beside_it(config):
    assert_one_pass_serves_every_prefix(config)


@CONFIGS
def test_inner_loop_and_rate_scale_reach_every_block(config):
    model, items = model_of(config), sequences(2, 9)
    off = model(items, inner=WITHOUT_INNER_LOOP)
    zeros, ones = (InnerOptions(torch.full((2,), scale, dtype=torch.float64)) for scale in (0.0, 1.0))
    torch.testing.assert_close(off, model(items, inner=zeros))
    torch.testing.assert_close(model(items), model(items, inner=ones))
    assert (off - model(items)).abs().max() > 1e-3
