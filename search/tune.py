"""The search from the command line: `python -m search.tune --space FILE`."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.redact import redacted
from search.spec import Spec, load


def main() -> int:
    """Exit status: see `Ending.exit_status`, and 2 for what the user can fix."""
    arguments = parse()
    try:
        spec = resolve(arguments)
        directory = arguments.out or default_directory(spec.name, arguments.resume)
        check_directory(directory, arguments.resume)
        if arguments.accept_changes and not arguments.resume:
            raise UserError("--accept-changes: there is nothing to accept without --resume")
        if arguments.address and (Path.home() / ".ray/auth_token").exists():
            # A cluster of Ray 2.60 asks for the token, and Ray reads the mode when it is imported.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        # Ray, MLflow and torch take seconds to import: --help and a bad file do not wait for them.
        from search import experiment

        search = experiment.Experiment(
            spec, directory, arguments.address, arguments.resume, arguments.space, arguments.accept_changes
        )
        if arguments.dry_run:
            experiment.dry_run(search)
            return 0
        subject = experiment.prepare(search)
        return experiment.run(search, subject, subject.data.n_items - 1).exit_status
    except UserError as error:
        print(f"error: {redacted(str(error), arguments.address or '')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def resolve(arguments: argparse.Namespace) -> Spec:
    """The spec of the file with the command line's changes in it; a search has no use for the file's table."""
    flags = {
        "trials": arguments.trials,
        "concurrency": arguments.concurrency,
        "gpus_per_trial": arguments.gpus_per_trial,
    }
    changes = [f"search.{name}={value}" for name, value in flags.items() if value is not None]
    return replace(load(arguments.space, [*arguments.set, *changes]), table=None)


def default_directory(name: str, resume: bool) -> Path:
    """runs/NAME, or runs/NAME-2 and so on beside searches that are there; to resume, the last of them."""
    directory, number = Path("runs", name), 1
    while (directory / "trials.jsonl").exists():
        last, number = directory, number + 1
        directory = Path("runs", f"{name}-{number}")
    return (last if resume and number > 1 else directory).absolute()


def check_directory(directory: Path, resume: bool) -> None:
    """A search is neither overwritten nor mixed with another, and its folder can be made."""
    used = (directory / "trials.jsonl").exists()
    if used and not resume:
        raise UserError(f"{directory}: holds a search already; add --resume to finish it, or give another --out")
    if resume and not used:
        raise UserError(f"{directory}: holds no search to resume; expected a folder with a trials.jsonl")
    check_folder(directory, "--out")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.tune", description="Search the gate of a test-time adapting recommender."
    )
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="the experiment, a YAML file")
    parser.add_argument(
        "--out",
        type=lambda text: Path(text).absolute(),
        metavar="DIR",
        help="output folder (runs/NAME, or runs/NAME-2 ...)",
    )
    parser.add_argument("--trials", metavar="N", help="number of configurations to measure")
    parser.add_argument("--concurrency", metavar="N", help="trials at once, or auto")
    parser.add_argument("--gpus-per-trial", metavar="F", help="GPUs that a trial reserves; a fraction shares one")
    parser.add_argument(
        "--address", metavar="ADDRESS", help="a running Ray cluster to join: auto, or HOST:PORT of its head"
    )
    parser.add_argument("--resume", action="store_true", help="finish the search in --out")
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="with --resume: go on although spec, data, checkpoint or code were changed; the journal tells",
    )
    parser.add_argument("--dry-run", action="store_true", help="check everything, time one trial, print the plan")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="key.path=value", help="change values of the file"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
