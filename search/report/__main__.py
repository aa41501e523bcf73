"""Renders the report of a search again from its files: `python -m search.report DIR`."""

import sys
from pathlib import Path

from etarec.command_line import command_parser, exit_status
from search.redact import of_error
from search.report.render import OUTPUTS, render


@exit_status(interrupted="interrupted; the same command renders the report", redact=of_error)
def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, 2 where DIR holds no readable search, 130 for Ctrl-C."""
    parser = command_parser("search.report", "Render the report of a search again from its files.")
    parser.add_argument("directory", metavar="DIR", type=Path, help="folder of a search, such as runs/demo")
    directory = parser.parse_args(arguments).directory
    render(directory)
    print(f"wrote {', '.join(str(directory / name) for name in OUTPUTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
