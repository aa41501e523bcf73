"""Renders the report of a search again from its files: `python -m search.report DIR`."""

import argparse
import sys
from pathlib import Path

from etarec.config import UserError
from search.report.render import render


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit status: 0, or 2 with one message if DIR does not hold a readable search."""
    parser = argparse.ArgumentParser(prog="python -m search.report", description=__doc__.split("\n")[0])
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder of a search, such as runs/demo")
    directory = parser.parse_args(arguments).directory
    try:
        render(directory)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {', '.join(str(directory / name) for name in ('report.html', 'report.md', 'pareto.png'))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
