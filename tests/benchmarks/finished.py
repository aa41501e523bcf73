"""The finished search that a benchmark replays, as its command line names it."""

import argparse
from pathlib import Path


def named(benchmark: str, about: str | None, option: str, default: int, meaning: str) -> tuple[Path, int]:
    """The folder DIR of a finished search and the number behind `option`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{benchmark}", description=about)
    parser.add_argument("directory", type=Path, metavar="DIR", help="the folder of a finished search")
    parser.add_argument(option, dest="number", type=int, default=default, metavar="N", help=meaning)
    arguments = parser.parse_args()
    return arguments.directory, arguments.number
