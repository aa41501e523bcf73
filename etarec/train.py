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

from etarec import checkpoint
from etarec.checkpoint import Checkpoint
from etarec.command_line import exit_status, experiment_parser, named_path, naming
from etarec.config import ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, load
from etarec.device import default_device
from etarec.experiment_file import check_file, check_folder, load_training
from etarec.fitting import Epoch, fit
from etarec.metrics import EARLY_STOPPING, label, labelled
from etarec.models import InnerLoopModel, build, check, class_of
from etarec.progress import Phases

# Part of the key of a cached checkpoint. Raise it when the same settings begin to give other weights (rounding aside).
RECIPE = 4


def train(
    data: Interactions,
    model: ModelConfig,
    config: TrainConfig,
    watch: Callable[[Epoch], None] = lambda epoch: None,
    at_least: int = 0,
) -> Checkpoint:
    """Train from scratch and return the best epoch as a checkpoint. `watch` is called after every epoch.

    at_least: as in `fit`.

    Raises UserError if the loss is not finite, or for `skip_rate` with a model that has no inner loop.
    """
    if config.skip_rate and not issubclass(class_of(model), InnerLoopModel):
        raise UserError(f"train.skip_rate turns off the inner loop, and {model.label} has none; expected 0")
    torch.manual_seed(config.seed)
    learner = build(model, data.n_items, config.dropout).to(default_device())
    best, weights = None, {}
    for epoch in fit(learner, data, config, at_least):
        if epoch.improved:
            best, weights = epoch, {k: v.cpu().numpy().copy() for k, v in learner.state_dict().items()}
        watch(epoch)
    assert best is not None
    del learner
    torch.cuda.empty_cache()  # frees GPU memory for other processes; does nothing without CUDA
    about = (data.vocabulary, data.sha256, best.number, best.valid, checkpoint.code_of(model))
    return Checkpoint(model, config, weights, *about)


def cache_path(data: Interactions, model: ModelConfig, config: TrainConfig, *, rehearsal: bool = False) -> Path:
    """The file in $ETAREC_CACHE, or else in .cache/etarec, for the checkpoint of these data, model and settings.

    rehearsal: trained as many epochs as the search's own checkpoint at least, whose number follows from the settings.
    """
    # A setting that is null is left out, so that a new setting that is off by default keeps old keys.
    chosen = {name: value for name, value in dataclasses.asdict(config).items() if value is not None}
    settings = [RECIPE, data.sha256, model.settings(), chosen, *filter(None, [checkpoint.code_of(model)])]
    settings += ["rehearsal"] * rehearsal
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / f"{model.label.lower()}-{key}.safetensors"


def cache_folder() -> Path:
    """$ETAREC_CACHE, or else .cache/etarec. Raises UserError if the variable is empty."""
    given = os.environ.get("ETAREC_CACHE", ".cache/etarec")
    if not given.strip():
        raise UserError("ETAREC_CACHE: given an empty text, expected a folder for trained checkpoints")
    return Path(given).expanduser().absolute()


def check_cache(path: Path, data: Interactions, model: ModelConfig) -> None:
    """Raise UserError if the checkpoint that is to be trained could not be written to `path`, a `cache_path`."""
    with torch.device("meta" if model.class_path is None else "cpu"):  # only shapes, no memory
        tensors = build(model, data.n_items).state_dict().values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) + data.vocabulary.nbytes
    check_folder(path.parent, "ETAREC_CACHE", size)


def load_or_train(
    data: Interactions, model: ModelConfig, config: TrainConfig, watch: Callable[[Epoch], None], at_least: int = 0
) -> tuple[Checkpoint, Path]:
    """The checkpoint of these settings and its file in the cache; if it is not there, it is trained and written first.

    at_least: for a rehearsal, the epochs of the search's own checkpoint, as in `fit`.

    Raises UserError if training fails, or if the file cannot be written or read.
    """
    path = cache_path(data, model, config, rehearsal=at_least > 0)
    if not path.exists():
        check_cache(path, data, model)
        checkpoint.write(train(data, model, config, watch, at_least), path)
    return checkpoint.read(path), path


@contextmanager
def progress(config: TrainConfig, phases: Phases) -> Iterator[Callable[[Epoch], None]]:
    """Yield a `watch` for `train` that prints a line per epoch and shows how far the training is.

    The total is the largest number of epochs; training usually stops earlier.
    """
    with phases.phase("training", config.epochs) as phase:

        def watch(epoch: Epoch) -> None:
            mark = "  best so far" if epoch.improved else ""
            phases.line(
                f"  epoch {epoch.number:3}  loss {epoch.loss:.3f}  {labelled(epoch.valid)}  {epoch.seconds:.1f} s{mark}"
            )
            note, facts = (_best(epoch), epoch.valid) if epoch.improved else (None, {})
            phase.advance(epoch.number, note, **facts)

        yield watch


def _best(epoch: Epoch) -> str:
    return f"best {label(EARLY_STOPPING)} {epoch.valid[EARLY_STOPPING]:.4f}, epoch {epoch.number}"


@exit_status(interrupted="interrupted; no checkpoint was written")
def main() -> int:
    """Run the command. Exit status: 0 if the checkpoint was written, 2 for a user's error, 130 after Ctrl-C."""
    arguments = _parse()
    out, phases = arguments.out, Phases()
    spec = load_training(arguments.space, arguments.set)
    with naming(arguments.space):
        check(spec.model)
    _check_out(out, arguments.space, spec.data.path)
    with phases.phase("loading"):
        data = load(spec.data)
    for line in (*data.reading.summary(), *(f"warning: {doubt}" for doubt in data.reading.doubts)):
        phases.line(line)
    with progress(spec.train, phases) as watch:
        trained = train(data, spec.model, spec.train, watch)
    checkpoint.write(trained, out)
    phases.line(f"checkpoint  {out}: epoch {trained.epochs}, validation {labelled(trained.valid)}")
    return 0


def _check_out(out: Path, *inputs: Path | str | None) -> None:
    """Fail now, not after hours of training, if --out cannot be written or would overwrite one of `inputs`."""
    check_file(out.absolute(), "--out")
    if out.exists() and any(given and os.path.exists(given) and out.samefile(given) for given in inputs):
        raise UserError(f"--out {out}: is an input of the training, expected another file name")


def _parse() -> argparse.Namespace:
    parser = experiment_parser("etarec.train", "Train a sequential recommender.")
    parser.add_argument("--out", type=named_path, required=True, metavar="CHECKPOINT", help="safetensors file to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
