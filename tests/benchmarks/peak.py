"""(f) Achieved share of the machine's matrix-product peak; operations.py counts the operations."""

import copy
import shutil
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from etarec import likelihood, scoring
from etarec.config import AdaptConfig, ModelConfig, TrainConfig
from etarec.data import Interactions, training_windows
from etarec.models import SequenceModel, build
from tests.benchmarks import material, timing
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.operations import FORMULA, forward_operations, trial_operations

REPEATS = 5
PRODUCTS = 3  # number of pieces, the first ones, of which the best in a round is that round's peak


class Piece(NamedTuple):
    """A piece of work, and its number of operations, known after a run."""

    name: str
    work: Callable[[], Any]
    operations: Callable[[], float]


def peak(settings: Settings) -> Table:
    rows, notes = measured(settings, material.DEVICE)
    return Table(
        "(f) Share of the machine's matrix-product peak",
        f"{FORMULA} The peak is the best of the first {PRODUCTS} rows in a round; a share is the median of "
        f"{_repeats(settings)} rounds, each against its own peak. CPU seconds of one thread. {notes}",
        ["", "GFLOP", "CPU s", "GFLOP/s", "share of peak"],
        rows,
    )


def measured(settings: Settings, device: torch.device) -> tuple[list[list[Cell]], str]:
    """Rows of the table, and a note on torch.compile."""
    pieces, note = _products(settings, device), ""
    model = build(ModelConfig(), material.interactions(settings).n_items).to(device).eval()
    items = torch.randint(1, model.items.num_embeddings, (64, 16), device=device)
    pieces += _passes("", model, items)
    if settings.quick or not shutil.which("g++"):
        note = "torch.compile was not tried: " + ("--quick." if settings.quick else "no C++ compiler is there.")
    else:
        by_torch_compile, note = _by_torch_compile(model, items)
        pieces += by_torch_compile
    pieces += _scoring(settings, device) + _whole(settings, device)
    for piece in pieces:  # a first run allocates buffers, fills caches and counts operations
        piece.work()
    runs = timing.interleaved([piece.work for piece in pieces], _repeats(settings))
    rates = [_rates(piece, own, device) for piece, own in zip(pieces, runs, strict=True)]
    peaks = [max(products) for products in zip(*rates[:PRODUCTS], strict=True)]
    return [_row(piece, own, peaks) for piece, own in zip(pieces, rates, strict=True)], note


def _repeats(settings: Settings) -> int:
    return 2 if settings.quick else REPEATS


def _rates(piece: Piece, runs: list[timing.Timed], device: torch.device) -> list[float]:
    """GFLOP per second of each round."""
    seconds = [run.wall if device.type == "cuda" else run.cpu for run in runs]
    return [piece.operations() / 1e9 / second for second in seconds]


def _row(piece: Piece, rates: list[float], peaks: list[float]) -> list[Cell]:
    share = median(own / top for own, top in zip(rates, peaks, strict=True))
    operations = piece.operations() / 1e9
    return [piece.name, operations, operations / median(rates), median(rates), f"{share:.1%}"]


def _often(work: Callable[[], Any], times: int) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def _products(settings: Settings, device: torch.device) -> list[Piece]:
    """The peak, and the library's products in the model's shapes."""
    n = (1024 if settings.quick else 2048) * (4 if device.type == "cuda" else 1)
    large = torch.randn(n, n, device=device)
    tokens, wide = torch.randn(1024, 64, device=device), torch.randn(64, 256, device=device)
    heads, fast = torch.randn(512, 8, 16, device=device), torch.randn(512, 16, 64, device=device)
    return [
        Piece(f"product {n} x {n} x {n}", partial(torch.mm, large, large), lambda: 2 * n**3),
        Piece(
            "products 1,024 x 64 x 256 (SwiGLU)",
            _often(partial(torch.mm, tokens, wide), 500),
            _count(500, tokens, wide),
        ),
        Piece(
            "512 products 8 x 16 x 64 (inner loop)",
            _often(partial(torch.bmm, heads, fast), 500),
            _count(500, heads, fast),
        ),
    ]


def _count(times: int, a: Tensor, b: Tensor) -> Callable[[], float]:
    return lambda: 2 * times * a.numel() * b.shape[-1]


def _passes(suffix: str, model: SequenceModel, items: Tensor, times: int = 10) -> list[Piece]:
    tokens = times * items.numel()
    operations = forward_operations(model.config, tokens, tokens)

    def forward() -> None:
        with torch.no_grad():
            model(items)

    return [
        Piece(f"model forward{suffix}, 1,024 tokens, 16 a sequence", _often(forward, times), lambda: operations),
        Piece(
            f"forward + backward{suffix}, the same",
            _often(lambda: model(items).sum().backward(), times),
            lambda: 3 * operations,
        ),
    ]


def _by_torch_compile(model: SequenceModel, items: Tensor) -> tuple[list[Piece], str]:
    """The same passes with the block under torch.compile, to see the gain from fusing elementwise work."""
    fused = copy.deepcopy(model)
    fused.blocks[0] = torch.compile(fused.blocks[0], dynamic=False)
    pieces = _passes(", torch.compile", fused, items)
    begin = time.perf_counter()
    try:
        for piece in pieces:
            piece.work()
    except Exception as error:  # the compiler raises errors of many types
        return [], f"torch.compile failed: {str(error).splitlines()[0][:120]}."
    seconds = time.perf_counter() - begin
    return pieces, f"torch.compile took {seconds:.0f} s for the two passes of one shape; the program does not use it."


def _scoring(settings: Settings, device: torch.device) -> list[Piece]:
    rows, V = 256 if settings.quick else 2048, material.interactions(settings).n_items - 1
    hidden = torch.randn(rows, 64, device=device, requires_grad=True)
    vectors = (0.02 * torch.randn(V, 64, device=device)).requires_grad_()
    targets = torch.randint(V, (rows,), device=device)

    def scan() -> None:
        with torch.no_grad():
            scoring.scan(hidden, vectors, targets, top_k=50)

    def loss() -> None:
        likelihood.cross_entropy(hidden, vectors, targets).backward()

    return [
        Piece(f"ranks and Top-50, {rows:,} x {V:,}", scan, lambda: 2 * rows * 64 * V),
        Piece("cross-entropy with gradients, the same", loss, lambda: 6 * rows * 64 * V),
    ]


def _whole(settings: Settings, device: torch.device) -> list[Piece]:
    data = material.part_of(material.interactions(settings), 60 if settings.quick else 2000)
    model = build(ModelConfig(), data.n_items).to(device)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    subject = material.Subject(data, material.checkpoint(settings), device)
    admitted = np.zeros(len(subject.stream), np.bool_)

    def trial() -> None:
        admitted[:] = subject.trial(AdaptConfig(new_transitions_only=False)).admitted

    return [
        Piece(
            "training epoch",
            lambda: material.epoch(model, data, TrainConfig(dropout=0.0), optimizer),
            lambda: _epoch_operations(data),
        ),
        Piece("trial, weights, gated", trial, lambda: trial_operations(subject, AdaptConfig(), admitted)),
    ]


def _epoch_operations(data: Interactions) -> float:
    _, lengths, first_loss = training_windows(data, TrainConfig().window_stride)
    tokens, samples = int(lengths.sum()), int((lengths - first_loss).sum())
    return 3 * forward_operations(ModelConfig(), tokens, samples) + 6 * samples * ModelConfig().width * (
        data.n_items - 1
    )
