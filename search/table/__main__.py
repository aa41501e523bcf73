"""A table of models and adaptations from one experiment file: `python -m search.table --space FILE`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from etarec.command_line import absolute_path, exit_status, experiment_parser, noting
from etarec.config import UserError
from etarec.experiment_file import check_folder
from search.records.journal import holds_search
from search.redact import of_error, redacting
from search.running.address import use_cluster_token
from search.spec import load


@exit_status(interrupted="interrupted; the same command continues it", redact=of_error)
def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0, 2 for what the user can fix, 130 for Ctrl-C."""
    arguments = _parse(words)
    with redacting(arguments.address or ""):
        _make(arguments)
    return 0


def _make(arguments: argparse.Namespace) -> None:
    spec = load(arguments.space, arguments.set)
    directory = arguments.out or Path("runs", f"{spec.name}-table").absolute()
    if holds_search(directory):
        raise UserError(f"--out {directory}: holds a search, expected a folder of its own for the table")
    check_folder(directory, "--out")
    use_cluster_token(arguments.address)
    # Ray and torch take seconds to import: --help and a bad file do not wait for them.
    from search.table import run

    seeds = tuple(dict.fromkeys(arguments.seeds))
    with noting("the same command continues the table"):
        run.make(run.TableRun(spec, directory, arguments.address, arguments.rows, seeds, arguments.space))


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = experiment_parser("search.table", "Train, measure and compare the rows of an experiment file's table.")
    parser.add_argument("--out", type=absolute_path, metavar="DIR", help="output folder (default: runs/NAME-table)")
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="measure only these rows")
    parser.add_argument(
        "--seeds", nargs="+", type=_seed, default=[], metavar="N", help="training seeds, instead of those of each row"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="running Ray cluster to use: auto, or HOST:PORT of its head"
    )
    return parser.parse_args(words)


def _seed(text: str) -> int:
    if not text.isdigit() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text}: expected an integer from 0 to below 2147483648")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
