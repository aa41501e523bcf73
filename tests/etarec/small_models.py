"""Small models with weights far from their initial values, and their parts by formula."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.models import SequenceModel, build

TTT4REC = ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=24)
GRU4REC = ModelConfig(name="gru4rec", width=8, mlp_width=12, blocks=2)
SASREC = ModelConfig(name="sasrec", width=8, heads=2, mlp_width=12, blocks=2, positions=20)
BERT4REC = ModelConfig(name="bert4rec", width=8, heads=2, mlp_width=12, blocks=2, positions=20)
MAMBA4REC = ModelConfig(name="mamba4rec", width=8, mlp_width=12, blocks=2, state_size=3)
Outputs = Tensor | tuple[Tensor, None]
STATIC = (GRU4REC, SASREC, BERT4REC, MAMBA4REC)


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


def assert_one_pass_serves_every_prefix(config: ModelConfig) -> None:
    """Each prefix has the same state alone, inside its sequence, and in front of padding."""
    model, items = model_of(config), sequences(5, 13)
    padded = F.pad(items, (0, 4))
    for out in (model(items), model(padded)[:, :13]):
        for row in range(5):
            for length in range(1, 14):
                alone = model(items[row : row + 1, :length])[0, -1]
                torch.testing.assert_close(out[row, length - 1], alone, rtol=0, atol=1e-11)


def layer_norm(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt() * norm.weight + norm.bias


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


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


def _branches(model: SequenceModel) -> Iterable[tuple[nn.Module, nn.Module]]:
    """The modules whose outputs are a block's two branches."""
    if model.config.name == "sasrec":
        return [(block.self_attn, block.linear2) for block in model.blocks.layers]
    return [(block.mamba, block.feed_forward) for block in model.blocks]


def _detached(
    _module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, None]
) -> Tensor | tuple[Tensor, None]:
    return output.detach() if isinstance(output, Tensor) else (output[0].detach(), None)


def hidden_with_constant_branches(model: SequenceModel, items: Tensor, depth: str) -> Tensor:
    """The last hidden state of a post-norm model, by a pass over items int[1, L] in which the branches are constants.

    depth: with "mlp", the last feed-forward layer is no constant.
    """
    *below, (mix, feed) = _branches(model)
    constants = [mix, *(module for pair in below for module in pair), *([] if depth == "mlp" else [feed])]
    handles = [module.register_forward_hook(_detached) for module in constants]
    hidden = model(items)[0, -1]
    for handle in handles:
        handle.remove()
    return hidden
