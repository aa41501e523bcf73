"""Training of the checkpoint from which every trial starts.

    python -m etarec.train --space FILE --out CHECKPOINT [--set key.path=value ...]

A loss at every position of a window is the loss over all its prefixes at a fraction of the cost (the model is causal).
"""

import argparse
import dataclasses
import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from etarec import checkpoint, scoring
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, load, stream, training_windows
from etarec.device import default_device
from etarec.encode import IDLE_ROWS, Encoder, group_by_length
from etarec.evaluate import measure
from etarec.experiment_file import check_folder, load_training
from etarec.metrics import quality
from etarec.models import BERT4Rec, SequenceModel, build
from etarec.ttt import InnerOptions

TOKENS_PER_PASS = 2**13  # training runs on all cores, and several threads want larger passes than one does
RECIPE = (
    4  # part of a cached checkpoint's key: raise it when the same settings train to other weights, but for rounding
)


@dataclass(frozen=True)
class Epoch:
    """One pass over the training samples: mean loss in nats, quality on validation, whether NDCG@10 improved."""

    number: int
    loss: float
    valid: dict[str, float]
    improved: bool
    seconds: float


def fit(model: SequenceModel, data: Interactions, config: TrainConfig) -> Iterator[Epoch]:
    """Trains the model in place and yields after every epoch, until validation NDCG@10 stops improving.

    When an epoch that improved is yielded, the model holds the best weights so far; later epochs overwrite them.
    Raises UserError where the loss is no longer a finite number.
    """
    encoder = Encoder(data, next(model.parameters()).device)
    validation = stream(data, "valid", "user", 0)
    optimizers = _optimizers(model, config)
    rng = np.random.default_rng(config.seed)
    best, waited = -1.0, 0
    for number in range(1, config.epochs + 1):
        begin = time.perf_counter()
        loss = _epoch(model, encoder, config, optimizers, rng)
        if not math.isfinite(loss):
            raise UserError(
                f"training diverged in epoch {number}: its loss is {loss}; expected a train.learning_rate "
                f"below {config.learning_rate}"
            )
        valid = quality(measure(model, encoder, validation, AdaptConfig(target="none"), seed=0).ranks)
        improved = valid["ndcg_at_10"] > best
        best, waited = (valid["ndcg_at_10"], 0) if improved else (best, waited + 1)
        yield Epoch(number, loss, valid, improved, time.perf_counter() - begin)
        if waited >= config.patience:
            return


def _optimizers(model: SequenceModel, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Adam; of sampled items lazy: only the vectors that a step looked at, and their moments, are updated.

    At 1,000,000 items of width 64 dense gradients and moments would be some gigabytes to read and write in every step.
    """
    rate, weights = config.learning_rate, dict(model.named_parameters())
    if config.negatives is None:
        return [torch.optim.Adam(weights.values(), lr=rate, fused=True)]
    items = weights.pop("items.weight")
    return [torch.optim.SparseAdam([items], lr=rate), torch.optim.Adam(weights.values(), lr=rate, fused=True)]


def _epoch(
    model: SequenceModel,
    encoder: Encoder,
    config: TrainConfig,
    optimizers: list[torch.optim.Optimizer],
    rng: np.random.Generator,
) -> float:
    model.train()
    starts, lengths, first_loss = training_windows(encoder.data, min(config.window_stride, encoder.data.max_length))
    losses, count = [], 0
    for chosen in _steps(lengths - first_loss, config.batch_size, rng):
        kept = torch.from_numpy((rng.random(len(chosen)) >= config.skip_rate).astype(np.float32))
        scale = kept.to(encoder.device) if config.skip_rate else None
        if isinstance(model, BERT4Rec):
            hidden, targets = _masked(model, encoder, starts[chosen], lengths[chosen] + 1, config, rng)
        else:
            hidden, targets = _windows(model, encoder, starts[chosen], lengths[chosen], first_loss[chosen], scale)
        loss = _loss(model, hidden, targets, config.negatives, rng)
        model.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.detach() * len(targets))
        count += len(targets)
    return float(torch.stack(losses).sum()) / count


def _loss(
    model: SequenceModel, hidden: torch.Tensor, targets: torch.Tensor, negatives: int | None, rng: np.random.Generator
) -> torch.Tensor:
    """Mean cross-entropy over all items, or estimated from so many that are drawn for this step."""
    if negatives is None:
        return scoring.cross_entropy(hidden, model.items.weight, targets, padding=1)
    n_items = model.items.num_embeddings - 1
    drawn = torch.from_numpy(rng.choice(n_items, min(negatives, n_items), replace=False)).to(targets.device)
    own, sampled = model.items(targets + 1), model.items(drawn + 1)
    return scoring.sampled_cross_entropy(hidden, own, sampled, targets[:, None] == drawn, n_items)


def _steps(samples: npt.NDArray[np.int32], size: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """All windows in random order, cut into steps of about `size` samples."""
    order = rng.permutation(len(samples))
    served = np.cumsum(samples[order])
    cuts = np.searchsorted(served, np.arange(size, served[-1], size))
    return [part for part in np.split(order, np.unique(cuts)) if len(part)]


def _windows(
    model: SequenceModel,
    encoder: Encoder,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    first_loss: npt.NDArray[np.int32],
    scale: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, D] and targets int[T] (rows of the item vectors) of every position with a loss."""
    hidden, targets = [], []
    for rows, since, states in encoder.passes(
        model, starts, lengths, first_loss + 1, InnerOptions(scale), TOKENS_PER_PASS
    ):
        place = since[:, None] + np.arange(states.shape[1])
        counted = (place >= first_loss[rows, None]) & (place < lengths[rows, None])
        following = torch.from_numpy((starts[rows, None] + place + 1)[counted]).to(encoder.device)
        hidden.append(states[torch.from_numpy(counted).to(encoder.device)])
        targets.append(encoder.items[following] - 1)
    return torch.cat(hidden), torch.cat(targets)


def _masked(
    model: BERT4Rec,
    encoder: Encoder,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int32],
    config: TrainConfig,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden states [T, D] and targets int[T] (rows of the item vectors) of the masked items.

    Of a sequence either each item is masked with the chance `mask_rate`, one at least, or it is cut off behind a random
    item, which alone is masked: so the model is served.
    """
    cut = rng.random(len(lengths)) < config.mask_last
    lengths = np.where(cut, rng.integers(2, lengths + 1), lengths)
    hidden, targets = [], []
    for rows in group_by_length(lengths, TOKENS_PER_PASS, IDLE_ROWS[encoder.device.type]):
        items, place = encoder.padded(starts[rows], lengths[rows]), np.arange(lengths[rows].max())
        masked = (rng.random((len(rows), len(place))) < config.mask_rate) & ~cut[rows, None]
        masked[np.arange(len(rows)), lengths[rows] - 1] |= cut[rows] | ~(masked & (place < lengths[rows, None])).any(1)
        counted = torch.from_numpy(masked & (place < lengths[rows, None])).to(encoder.device)
        states = model.fill_in(model.embed(items), counted, torch.from_numpy(lengths[rows]).to(encoder.device))
        hidden.append(states[counted])
        targets.append(items[counted] - 1)
    return torch.cat(hidden), torch.cat(targets)


def train(
    data: Interactions, model: ModelConfig, config: TrainConfig, watch: Callable[[Epoch], None] = lambda epoch: None
) -> Checkpoint:
    """Trains from scratch and returns the best epoch as a checkpoint; `watch` is called after every epoch.

    Raises UserError for settings that the model has no use for, and as `fit`.
    """
    if config.skip_rate and model.name != "ttt4rec":
        raise UserError(f"train.skip_rate switches an inner loop off, which {model.name} has not; expected 0")
    torch.manual_seed(config.seed)
    learner = build(model, data.n_items, config.dropout).to(default_device())
    best, weights = None, {}
    for epoch in fit(learner, data, config):
        if epoch.improved:
            best, weights = epoch, {k: v.cpu().numpy().copy() for k, v in learner.state_dict().items()}
        watch(epoch)
    assert best is not None
    del learner
    torch.cuda.empty_cache()  # trials beside this process need the memory; without CUDA it does nothing
    return Checkpoint(model, config, weights, data.vocabulary, data.sha256, best.number, best.valid)


def cache_path(data: Interactions, model: ModelConfig, config: TrainConfig) -> Path:
    """Where the checkpoint of these data, split, model and settings is kept: in $ETAREC_CACHE or .cache/etarec."""
    chosen = {
        name: value for name, value in dataclasses.asdict(config).items() if value is not None
    }  # what is off counts for nothing
    settings = [RECIPE, data.sha256, dataclasses.asdict(model), chosen]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return Path(os.environ.get("ETAREC_CACHE", ".cache/etarec")).absolute() / f"{model.name}-{key}.safetensors"


def load_or_train(
    data: Interactions, model: ModelConfig, config: TrainConfig, watch: Callable[[Epoch], None]
) -> tuple[Checkpoint, Path]:
    """The cached checkpoint of these settings, trained first where there is none."""
    path = cache_path(data, model, config)
    if not path.exists():
        checkpoint.write(train(data, model, config, watch), path)
    return checkpoint.read(path), path


@contextmanager
def shown(config: TrainConfig, terminal: Console) -> Iterator[Callable[[Epoch], None]]:
    """A `watch` that prints a line per epoch, above a progress bar on a terminal."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(TextColumn("training"), *columns, console=terminal, transient=True, disable=not terminal.is_terminal)
    with bar:
        task = bar.add_task("training", total=config.epochs)

        def watch(epoch: Epoch) -> None:
            mark = "  best so far" if epoch.improved else ""
            valid = f"validation HR@10 {epoch.valid['hr_at_10']:.4f}  NDCG@10 {epoch.valid['ndcg_at_10']:.4f}"
            terminal.print(f"  epoch {epoch.number:3}  loss {epoch.loss:.3f}  {valid}  {epoch.seconds:.1f} s{mark}")
            bar.update(task, completed=epoch.number)

        yield watch


def main() -> int:
    """Exit status: 0 when the checkpoint is written, 2 for what the user can fix, 130 when it was interrupted."""
    arguments = _parse()
    out, terminal = arguments.out, Console(highlight=False, markup=False, soft_wrap=True)
    try:
        spec = load_training(arguments.space, arguments.set)
        _check_out(out, arguments.space, spec.data.path)
        data = load(spec.data)
        with shown(spec.train, terminal) as watch:
            trained = train(data, spec.model, spec.train, watch)
        checkpoint.write(trained, out)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; no checkpoint was written", file=sys.stderr)
        return 130
    quality = f"HR@10 {trained.valid['hr_at_10']:.4f}, NDCG@10 {trained.valid['ndcg_at_10']:.4f}"
    terminal.print(f"checkpoint  {out}: epoch {trained.epochs}, validation {quality}")
    return 0


def _check_out(out: Path, *inputs: Path | str | None) -> None:
    """What would fail, or destroy an input, after hours of training fails before it."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected the name of a checkpoint file")
    if out.exists() and any(given and os.path.exists(given) and out.samefile(given) for given in inputs):
        raise UserError(f"--out {out}: is an input of the training, expected the name of a checkpoint file")
    check_folder(out.absolute().parent, "--out")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m etarec.train", description="Train a sequential recommender.")
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="the experiment, a YAML file")
    parser.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="safetensors file to write")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="key.path=value", help="change values of the file"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
