"""The models without an inner loop: against their papers' formulas, in training and in adaptation."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from etarec import checkpoint, evaluate, fitting, train
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, stream
from etarec.encode import Encoder
from etarec.models import BERT4Rec, SequenceModel, build
from etarec.models.mamba4rec import selective_scan
from etarec.ragged import OutputPositions

CPU = torch.device("cpu")
GRU4REC = ModelConfig(name="gru4rec", width=8, mlp_width=12, blocks=2)
SASREC = ModelConfig(name="sasrec", width=8, heads=2, mlp_width=12, blocks=2, positions=20)
BERT4REC = ModelConfig(name="bert4rec", width=8, heads=2, mlp_width=12, blocks=2, positions=20)
MAMBA4REC = ModelConfig(name="mamba4rec", width=8, mlp_width=12, blocks=2, state_size=3)
STATIC = (GRU4REC, SASREC, BERT4REC, MAMBA4REC)
CAUSAL = pytest.mark.parametrize("config", [GRU4REC, SASREC, MAMBA4REC], ids=lambda config: config.name)
ALL = pytest.mark.parametrize("config", STATIC, ids=lambda config: config.name)


def model_of(config: ModelConfig, n_items: int = 30) -> SequenceModel:
    torch.manual_seed(0)
    model = build(config, n_items).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
        model.items.weight[0] = 0
    return model.requires_grad_(False)


def sequences(N: int, L: int) -> Tensor:
    return torch.randint(1, 30, (N, L), generator=torch.Generator().manual_seed(L))


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def test_gru4rec_is_the_recurrence():
    model, items = model_of(GRU4REC), sequences(1, 6)
    x = model.items.weight[items[0]]
    for layer in range(2):
        into, back = (getattr(model.gru, f"weight_{kind}_l{layer}").chunk(3) for kind in ("ih", "hh"))
        h, states = torch.zeros(12, dtype=torch.float64), []
        for x_t in x:
            r, z = (torch.sigmoid(into[gate] @ x_t + back[gate] @ h) for gate in (0, 1))
            h = (1 - z) * torch.tanh(into[2] @ x_t + r * (back[2] @ h)) + z * h
            states.append(h)
        x = torch.stack(states)
    torch.testing.assert_close(model(items)[0], x @ model.output.weight.T + model.output.bias)


def transformer_states(model: SequenceModel, x: Tensor, seen_by: list[list[int]]) -> Tensor:
    """[L, D] -> [L, D]; position i attends to `seen_by[i]`."""
    x = layer_norm(x + model.positions.table.weight[: len(x)], model.positions.norm)
    for block in model.blocks.layers:
        attention = block.self_attn
        q, k, v = (x @ attention.in_proj_weight.T + attention.in_proj_bias).split(8, dim=-1)
        heads = []
        for head in (slice(0, 4), slice(4, 8)):
            rows = []
            for i, seen in enumerate(seen_by):
                weights = torch.softmax(k[seen][:, head] @ q[i, head] / 2, dim=0)
                rows.append(weights @ v[seen][:, head])
            heads.append(torch.stack(rows))
        x = layer_norm(x + block.self_attn.out_proj(torch.cat(heads, dim=-1)), block.norm1)
        x = layer_norm(x + block.linear2(gelu(block.linear1(x))), block.norm2)
    return x


def test_sasrec_attends_to_what_came_before():
    model, items = model_of(SASREC), sequences(1, 7)
    expected = transformer_states(model, model.items.weight[items[0]], [list(range(i + 1)) for i in range(7)])
    torch.testing.assert_close(model(items)[0], expected)


def test_bert4rec_attends_to_both_sides_and_answers_at_the_mask():
    model, items = model_of(BERT4REC), sequences(1, 7)
    x = torch.cat([model.items.weight[items[0]], model.mask[None]])
    state = transformer_states(model, x, [list(range(8))] * 8)[-1]
    expected = layer_norm(gelu(state @ model.output.weight.T + model.output.bias), model.output_norm)
    torch.testing.assert_close(model(items)[0, 0], expected)


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


@CAUSAL
def test_one_pass_serves_every_prefix_whatever_stands_beside_it(config):
    model, items = model_of(config), sequences(5, 13)
    padded = F.pad(items, (0, 4))
    for out in (model(items), model(padded)[:, :13]):
        for row in range(5):
            for length in range(1, 14):
                alone = model(items[row : row + 1, :length])[0, -1]
                torch.testing.assert_close(out[row, length - 1], alone, rtol=0, atol=1e-11)


@ALL
def test_sequences_of_different_lengths_run_together(config):
    model, items = model_of(config), sequences(4, 9)
    lengths = torch.tensor([9, 6, 2, 1])
    items[torch.arange(9) >= lengths[:, None]] = 0
    together = model.encode(model.embed(items), OutputPositions(lengths=lengths))
    for row, length in enumerate(lengths.tolist()):
        alone = model(items[row : row + 1, :length])[0, -1]
        torch.testing.assert_close(together[row, 0], alone, rtol=0, atol=1e-11)


@ALL
def test_the_encoder_gives_each_prefix_its_own_state(config, log: Interactions):
    model, encoder = model_of(config, log.n_items), Encoder(log, CPU)
    samples = stream(log, "test", "position", 0)
    starts, ends = encoder.ranges(samples.users, samples.positions)
    hidden = encoder.hidden(model, starts, ends)
    for row in range(0, len(starts), 7):
        alone = model(encoder.items[None, starts[row] : ends[row]])[0, -1]
        torch.testing.assert_close(hidden[row], alone, rtol=0, atol=1e-11)


@ALL
def test_initial_values_leave_no_bias_and_no_padding(config):
    torch.manual_seed(0)
    model = build(config, 500)
    assert (model.items.weight[0] == 0).all() and (model.items.weight[1:] != 0).any(1).all()
    for name, weight in model.named_parameters():
        if name.endswith("bias") and "dt_proj" not in name:
            assert (weight == 0).all(), name


def test_mambas_first_steps_lie_where_the_paper_puts_them():
    steps = F.softplus(build(ModelConfig(name="mamba4rec"), 30).blocks[0].mamba.dt_proj.bias.detach())
    assert 1e-3 <= float(steps.min()) < 5e-3 and 2e-2 < float(steps.max()) <= 0.1


@pytest.mark.parametrize("config", [SASREC, BERT4REC], ids=lambda config: config.name)
def test_more_items_than_learned_positions_are_refused(config):
    model = model_of(config)
    model(sequences(1, 20))
    with pytest.raises(UserError, match=r"model\.positions: 2[01] places for 2[12] items"):
        model(sequences(1, 21))


@ALL
def test_projections_are_a_part_of_the_body(config):
    model = build(config, 30)
    groups = {name: {id(p) for p in model.adaptable(name)} for name in ("projections", "body", "all")}
    assert groups["projections"] and groups["projections"] < groups["body"] < groups["all"]
    assert groups["all"] - groups["body"] == {id(model.items.weight)}


@ALL
def test_training_learns_and_a_checkpoint_gives_the_model_back(config, log, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "default_device", lambda: CPU)
    losses: list[float] = []
    settings = TrainConfig(epochs=25, patience=25, learning_rate=0.02, batch_size=64, dropout=0.0)
    trained = train.train(log, config, settings, lambda epoch: losses.append(epoch.loss))
    assert losses[-1] < 0.87 * losses[0] and losses[0] < 1.2 * math.log(log.n_items - 1)
    checkpoint.write(trained, tmp_path / "c.safetensors")
    model = checkpoint.read(tmp_path / "c.safetensors").restore(CPU)
    samples = stream(log, "valid", "user", 0)
    measured = evaluate.measure(model, Encoder(log, CPU), samples, AdaptConfig(target="none"), 0)
    assert measured.metrics()["hr_at_10"] == trained.valid["hr_at_10"] > 10 / (log.n_items - 1)


@ALL
def test_every_model_adapts_its_weights(config, log):
    samples, model = stream(log, "test", "position", 0), model_of(config, log.n_items)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config_of = AdaptConfig(gate="open", batch_size=32, learning_rate=0.01, weighting="none")
    measured = evaluate.measure(model, Encoder(log, CPU), samples, config_of, 0)
    assert measured.admitted.mean() > 0.5
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert {"items.weight"} < changed


@ALL
def test_only_an_inner_loop_has_states_to_adapt(config, log):
    samples = stream(log, "test", "position", 0)
    with pytest.raises(UserError, match=f"adapt.target: given state, but {config.name} has no inner loop"):
        evaluate.measure(model_of(config, log.n_items), Encoder(log, CPU), samples, AdaptConfig(target="state"), 0)
    with pytest.raises(UserError, match=f"skip_rate turns off the inner loop, and {config.name} has none"):
        train.train(log, config, TrainConfig(skip_rate=0.3))


class Watched(BERT4Rec):
    """Keeps the items that it embedded and the masks that it filled in."""

    def embed(self, items: Tensor) -> Tensor:
        self.shown = [*getattr(self, "shown", []), items]
        return super().embed(items)

    def fill_in(self, x: Tensor, masked: Tensor, lengths: Tensor) -> Tensor:
        self.asked = [*getattr(self, "asked", []), (masked, lengths)]
        return super().fill_in(x, masked, lengths)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_masks_lie_inside_the_sequence_and_hide_their_targets(share, log):
    model, encoder = Watched(BERT4REC, log.n_items, 0.0), Encoder(log, CPU)
    users = np.repeat(np.flatnonzero(np.diff(log.offsets) > 8), 40)
    starts, lengths = log.offsets[users], np.full(len(users), 8, np.int32)
    rng = np.random.default_rng(0)
    hidden, targets = fitting._masked(model, encoder, starts, lengths, TrainConfig(mask_last=share), rng)
    masks = torch.cat([F.pad(masked, (0, 8 - masked.shape[1])) for masked, _ in model.asked])
    lengths_seen = torch.cat([lengths for _, lengths in model.asked])
    assert len(hidden) == len(targets) == int(masks.sum()) and bool(masks.any(1).all())
    assert not (masks & (torch.arange(8) >= lengths_seen[:, None])).any()
    if share:
        assert (masks.sum(1) == 1).all() and (masks.int().argmax(1) == lengths_seen - 1).all()
        assert set(lengths_seen.tolist()) == set(range(2, 9))
    else:
        assert (lengths_seen == 8).all()
        at_random = 0.2 + 0.8**8 / 8  # one at least
        assert float(masks.double().mean()) == pytest.approx(at_random, abs=0.02)
    shown = torch.cat([F.pad(items, (0, 8 - items.shape[1])) for items in model.shown])
    assert torch.equal(targets, shown[masks] - 1)
