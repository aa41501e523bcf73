"""The residual stream of models whose blocks normalise behind each sum: x = N(x + mix(x)), then x = N(x + feed(x)).

`adapt.filtered: residual` and `mlp` follow this stream at a sequence's last position, with the branches mix and feed of
all positions before as constants. Dropout is left out: a batch is served without it.

Symbols: D width, P parts of D columns each.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from etarec.ragged import OutputPositions

Layer = Callable[[Tensor], Tensor]


class Branches(NamedTuple):
    """A block's two branches and the norms behind them."""

    mix: Layer  # looks at other positions: [N, L, D] -> [N, L, D]
    mix_norm: Layer
    feed: Layer  # looks at each position by itself: [..., D] -> [..., D]
    feed_norm: Layer


def parts_of_stream(start: Tensor, norm: Layer, blocks: Sequence[Branches], outputs: OutputPositions) -> Tensor:
    """The parts from which `follow_stream` goes on, at the wanted positions: [N, L, D] -> [N, count, P D].

    The first part is the stream's start, before its `norm`. Behind it stand the values of all branches in their order,
    without the last feed-forward layer's.
    """
    return torch.cat([outputs.of(part) for part in _parts(start, norm, blocks)][:-1], dim=-1)


def _parts(x: Tensor, norm: Layer, blocks: Sequence[Branches]) -> Iterator[Tensor]:
    yield x
    x = norm(x)
    for block in blocks:
        mixed = block.mix(x)
        x = block.mix_norm(x + mixed)
        fed = block.feed(x)
        x = block.feed_norm(x + fed)
        yield from (mixed, fed)


def follow_stream(parts: Tensor, norm: Layer, blocks: Sequence[Branches], *, branch_learns: bool) -> Tensor:
    """The hidden states behind the last block: [..., P D] -> [..., D].

    The gradient goes back along the stream to its start and to all norms, and with `branch_learns` into the last
    feed-forward layer.
    """
    start, *values = parts.chunk(2 * len(blocks), dim=-1)
    x = norm(start)
    for block, mixed, fed in zip(blocks, values[::2], [*values[1::2], None], strict=True):
        x = block.mix_norm(x + mixed)
        if fed is None:
            fed = block.feed(x) if branch_learns else block.feed(x).detach()
        x = block.feed_norm(x + fed)
    return x
