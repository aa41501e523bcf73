"""Passes of the checkpoint over a stream. They are the same in all trials, so they are computed once and looked up.

They are kept as memory-mapped .npy files, which all workers of a node share. A stream of S samples and width D takes
4 S (D + 1) bytes for the pass without the inner loop and 4 S bytes for the ranks with it. Each batch size takes
4 n (D + 2) bytes for the n samples that are served before weights can move.

They are computed in memory and then written. A file is believed only if its manifest has the key and the digests of
what lies there. A folder is renamed into its place when it is complete; whatever the disk cannot do is done in memory,
and the trial goes on.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from etarec import scoring
from etarec.adapt.fisher import diagonal
from etarec.data import Stream
from etarec.disk import Arrays, Layout, look_up
from etarec.encode import Encoder
from etarec.kernels import build
from etarec.kernels.inner_loop import kernels
from etarec.models import SequenceModel
from etarec.ttt import InnerOptions

SERVED_AT_ONCE = 4096  # samples of a pass whose results do not depend on batches
_BATCHES = "batches"


class Served(NamedTuple):
    """n samples that the checkpoint served: hidden states [n, D], memory-mapped; ranks int[n]; losses [n] of their
    targets, if asked for."""

    hidden: npt.NDArray[np.float32]
    ranks: Tensor
    losses: Tensor | None


class SharedPasses:
    """The passes of one stream. Ask for them only while the model has the checkpoint's weights.

    identity: texts that name weights and data; they are part of the key under which the passes are kept in `folder`.
    Without a folder the passes stay in memory. The results do not depend on the cache, because the same calls compute
    them with and without it. They equal those of serving the stream up to rounding, since batches share other passes.
    """

    def __init__(
        self, model: SequenceModel, encoder: Encoder, stream: Stream, identity: tuple[str, ...], folder: Path | None
    ):
        self.model, self.encoder, self.stream, self.folder = model, encoder, stream, folder
        self._width = int(model.item_vectors.shape[1])
        places = hashlib.sha256(stream.users.tobytes() + stream.positions.tobytes()).hexdigest()
        self._key = [*identity, places, *_numerics(encoder.device)]
        self._open: dict[str, Arrays] = {}

    @functools.cached_property
    def ranks(self) -> Tensor:
        """Ranks of all samples, with the inner loop: int[S]."""
        layout: Layout = {"ranks": (np.int32, (len(self.stream),))}
        return self._tensor(self._arrays("served", layout, lambda: {"ranks": self._pass(inner_loop=True)[0]})["ranks"])

    @functools.cached_property
    def initial_ranks(self) -> Tensor:
        """Ranks of all samples, without the inner loop: int[S]."""
        return self._tensor(self._initial["ranks"])

    def initial_hidden(self, rows: slice) -> Tensor:
        """Hidden states without the inner loop: [B, D]."""
        return self._tensor(self._initial["hidden"][rows])

    def batches(self, size: int, count: int, losses: bool) -> Served:
        """The first `count` samples of the stream, served by the same calls as in batches of `size`."""
        layout: Layout = {"hidden": (np.float32, (count, self._width)), "ranks": (np.int32, (count,))}
        if losses:
            layout["losses"] = (np.float32, (count,))

        def compute() -> Arrays:
            arrays: Arrays = {name: np.empty(shape, kind) for name, (kind, shape) in layout.items()}
            for rows in (np.arange(start, min(start + size, count)) for start in range(0, count, size)):
                hidden = self._hidden(rows, inner_loop=True)
                scan = self._scan(rows, hidden, losses)
                found = {"hidden": hidden, "ranks": scan.ranks, "losses": scan.losses}
                for name in layout:
                    arrays[name][rows] = _numpy(found[name])
            return arrays

        kind = f"{_BATCHES} {size} {count}" + " with losses" * losses
        for other in [key for key in self._open if key.startswith(_BATCHES) and key != kind]:
            del self._open[other]  # where the size of a batch is searched there are many
        arrays = self._arrays(kind, layout, compute)
        return Served(
            arrays["hidden"], self._tensor(arrays["ranks"]), self._tensor(arrays["losses"]) if losses else None
        )

    def fisher(self, samples: int) -> dict[str, Tensor]:
        """The diagonal Fisher information of the weights; see `fisher.diagonal`."""
        layout: Layout = {name: (np.float32, tuple(w.shape)) for name, w in self.model.named_parameters()}

        def compute() -> Arrays:
            return {name: _numpy(square) for name, square in diagonal(self.model, self.encoder, samples).items()}

        return {name: self._tensor(a) for name, a in self._arrays(f"fisher {samples}", layout, compute).items()}

    @property
    def _initial(self) -> Arrays:
        size = len(self.stream)
        layout: Layout = {"hidden": (np.float32, (size, self._width)), "ranks": (np.int32, (size,))}
        return self._arrays(
            "initial", layout, lambda: dict(zip(("ranks", "hidden"), self._pass(inner_loop=False), strict=True))
        )

    def _arrays(self, kind: str, layout: Layout, compute: Callable[[], Arrays]) -> Arrays:
        if kind not in self._open:
            self._open[kind] = look_up(self.folder, [kind, *self._key], layout, compute)
        return self._open[kind]

    def _pass(self, *, inner_loop: bool) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        """Ranks and, without the inner loop, hidden states, in the order of the stream."""
        ranks = np.empty(len(self.stream), np.int32)
        states = np.empty((0 if inner_loop else len(self.stream), self._width), np.float32)
        order = by_user(self.stream)
        for rows in (order[start : start + SERVED_AT_ONCE] for start in range(0, len(order), SERVED_AT_ONCE)):
            hidden = self._hidden(rows, inner_loop)
            ranks[rows] = _numpy(self._scan(rows, hidden).ranks)
            if not inner_loop:
                states[rows] = _numpy(hidden)
        return ranks, states

    @torch.no_grad()
    def _hidden(self, rows: npt.NDArray[np.int64], inner_loop: bool) -> Tensor:
        self.model.eval()
        starts, ends = self.encoder.ranges(self.stream.users[rows], self.stream.positions[rows])
        return self.encoder.hidden(self.model, starts, ends, InnerOptions(enabled=inner_loop))

    @torch.no_grad()
    def _scan(self, rows: npt.NDArray[np.int64], hidden: Tensor, losses: bool = False) -> scoring.Scan:
        ends = self.encoder.ranges(self.stream.users[rows], self.stream.positions[rows])[1]
        targets = self.encoder.items[torch.from_numpy(ends).to(self.encoder.device)] - 1
        return scoring.scan(hidden, self.model.item_vectors, targets, 0, losses)

    def _tensor(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(array)).to(self.encoder.device)


def by_user(stream: Stream) -> npt.NDArray[np.int64]:
    """The order in which neighbouring samples share a pass; results without adaptation do not depend on the order."""
    return np.lexsort((stream.positions, stream.users))


def _numerics(device: torch.device) -> list[str]:
    """Facts other than weights and data on which the last bits of the passes depend."""
    if device.type == "cuda":
        chip, code = torch.cuda.get_device_name(device), kernels()
    else:
        chip, code = torch.backends.cpu.get_cpu_capability(), build.kind()
    return [RECIPE, torch.__version__, device.type, chip, f"{torch.get_num_threads()} threads", code]


def _digest() -> str:
    files = sorted(path for path in Path(__file__).parents[1].rglob("*") if path.suffix in (".c", ".h", ".py"))
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


RECIPE = _digest()  # digest of this package's source: a version that changes with the code


def _numpy(tensor: Tensor | None) -> npt.NDArray[Any]:
    assert tensor is not None
    return tensor.cpu().numpy()
