"""A table of models and adaptations from one experiment file: `python -m search.table --space FILE`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.redact import redacted
from search.spec import load


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for what the user can fix, 130 when it was interrupted."""
    arguments = _parse(words)
    try:
        spec = load(arguments.space, arguments.set)
        directory = arguments.out or Path("runs", f"{spec.name}-table").absolute()
        if (directory / "trials.jsonl").exists():
            raise UserError(f"--out {directory}: holds a search, expected a folder of its own for the table")
        check_folder(directory, "--out")
        if arguments.address and (Path.home() / ".ray/auth_token").exists():
            # A cluster of Ray 2.60 asks for the token, and Ray reads the mode when it is imported.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
        # Ray and torch take seconds to import: --help and a bad file do not wait for them.
        from search.table import run

        rows, seeds = arguments.rows, tuple(dict.fromkeys(arguments.seeds))
        run.make(run.Reproduction(spec, directory, arguments.address, rows, seeds, arguments.space))
        return 0
    except UserError as error:
        print(f"error: {redacted(str(error), arguments.address or '')}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with it", file=sys.stderr)
        return 130


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m search.table", description="Train, measure and compare the rows of an experiment's table."
    )
    parser.add_argument("--space", type=Path, required=True, metavar="FILE", help="the experiment, a YAML file")
    parser.add_argument(
        "--out", type=lambda text: Path(text).absolute(), metavar="DIR", help="output folder (runs/NAME-table)"
    )
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="only these rows")
    parser.add_argument("--seeds", nargs="+", type=_seed, default=[], metavar="N", help="training seeds of every row")
    parser.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster to join: auto or HOST:PORT")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="key.path=value", help="change values of the file"
    )
    return parser.parse_args(words)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text}: expected an integer from 0 to below 2147483648")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
