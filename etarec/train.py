"""Training of the checkpoint from which every trial starts, its cache, and the command.

python -m etarec.train --space FILE --out CHECKPOINT [--set key.path=value ...]
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from etarec import checkpoint
from etarec.checkpoint import Checkpoint
from etarec.command_line import exit_status, experiment_parser, naming
from etarec.config import ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, load
from etarec.device import default_device
from etarec.experiment_file import check_folder, load_training
from etarec.fitting import Epoch, fit
from etarec.metrics import labelled
from etarec.models import InnerLoopModel, build, check, class_of

# Part of the key of a cached checkpoint. Raise it when the same settings begin to give other weights (rounding aside).
RECIPE = 4


def train(
    data: Interactions, model: ModelConfig, config: TrainConfig, watch: Callable[[Epoch], None] = lambda epoch: None
) -> Checkpoint:
    """Train from scratch and return the best epoch as a checkpoint. `watch` is called after every epoch.

    Raises UserError if the loss is not finite, or for `skip_rate` with a model that has no inner loop.
    """
    if config.skip_rate and not issubclass(class_of(model), InnerLoopModel):
        raise UserError(f"train.skip_rate turns off the inner loop, and {model.label} has none; expected 0")
    torch.manual_seed(config.seed)
    learner = build(model, data.n_items, config.dropout).to(default_device())
    best, weights = None, {}
    for epoch in fit(learner, data, config):
        if epoch.improved:
            best, weights = epoch, {k: v.cpu().numpy().copy() for k, v in learner.state_dict().items()}
        watch(epoch)
    assert best is not None
    del learner
    torch.cuda.empty_cache()  # frees GPU memory for other processes; does nothing without CUDA
    about = (data.vocabulary, data.sha256, best.number, best.valid, checkpoint.code_of(model))
    return Checkpoint(model, config, weights, *about)


def cache_path(data: Interactions, model: ModelConfig, config: TrainConfig) -> Path:
    """The file in $ETAREC_CACHE, or else in .cache/etarec, for the checkpoint of these data, model and settings."""
    # A setting that is null is left out, so that a new setting that is off by default keeps old keys.
    chosen = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    settings = [RECIPE, data.sha256, model.settings(), chosen, *filter(None, [checkpoint.code_of(model)])]
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return Path(os.environ.get("ETAREC_CACHE", ".cache/etarec")).absolute() / f"{model.label.lower()}-{key}.safetensors"


def load_or_train(
    data: Interactions, model: ModelConfig, config: TrainConfig, watch: Callable[[Epoch], None]
) -> tuple[Checkpoint, Path]:
    """The checkpoint of these settings and its file in the cache; if it is not there, it is trained and written first.

    Raises UserError if training fails, or if the file cannot be written or read.
    """
    path = cache_path(data, model, config)
    if not path.exists():
        checkpoint.write(train(data, model, config, watch), path)
    return checkpoint.read(path), path


@contextmanager
def progress(config: TrainConfig, terminal: Console) -> Iterator[Callable[[Epoch], None]]:
    """Yield a `watch` for `train` that prints a line per epoch and, on a terminal, draws a progress bar below."""
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(TextColumn("training"), *columns, console=terminal, transient=True, disable=not terminal.is_terminal)
    with bar:
        task = bar.add_task("training", total=config.epochs)

        def watch(epoch: Epoch) -> None:
            mark = "  best so far" if epoch.improved else ""
            valid = f"validation {labelled(epoch.valid)}"
            terminal.print(f"  epoch {epoch.number:3}  loss {epoch.loss:.3f}  {valid}  {epoch.seconds:.1f} s{mark}")
            bar.update(task, completed=epoch.number)

        yield watch


@exit_status(interrupted="interrupted; no checkpoint was written")
def main() -> int:
    """Run the command. Exit status: 0 if the checkpoint was written, 2 for a user's error, 130 after Ctrl-C."""
    arguments = _parse()
    out, terminal = arguments.out, Console(highlight=False, markup=False, soft_wrap=True)
    spec = load_training(arguments.space, arguments.set)
    with naming(arguments.space):
        check(spec.model)
    _check_out(out, arguments.space, spec.data.path)
    data = load(spec.data)
    for line in (*data.reading.summary(), *(f"warning: {doubt}" for doubt in data.reading.doubts)):
        terminal.print(line)
    with progress(spec.train, terminal) as watch:
        trained = train(data, spec.model, spec.train, watch)
    checkpoint.write(trained, out)
    terminal.print(f"checkpoint  {out}: epoch {trained.epochs}, validation {labelled(trained.valid)}")
    return 0


def _check_out(out: Path, *inputs: Path | str | None) -> None:
    """Fail now, not after hours of training, if --out cannot be written or would overwrite one of `inputs`."""
    if out.is_dir():
        raise UserError(f"--out {out}: is a folder, expected a file name")
    if out.exists() and any(given and os.path.exists(given) and out.samefile(given) for given in inputs):
        raise UserError(f"--out {out}: is an input of the training, expected another file name")
    check_folder(out.absolute().parent, "--out")


def _parse() -> argparse.Namespace:
    parser = experiment_parser("etarec.train", "Train a sequential recommender.")
    parser.add_argument("--out", type=Path, required=True, metavar="CHECKPOINT", help="safetensors file to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
