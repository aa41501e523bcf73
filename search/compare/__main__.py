"""Several searches on one page: `python -m search.compare DIR DIR ...`."""

import sys
from pathlib import Path

from etarec.command_line import absolute_path, command_parser, exit_status, short_path
from search.compare.render import OUTPUTS, render
from search.redact import of_error


@exit_status(interrupted="interrupted; the same command renders the comparison", redact=of_error)
def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, 2 where a DIR holds no readable search, 130 for Ctrl-C."""
    parser = command_parser("search.compare", "Compare finished searches on one page, from their files.")
    parser.add_argument("directories", nargs="+", metavar="DIR", type=Path, help="folders of searches")
    parser.add_argument(
        "--out", type=absolute_path, default=Path("runs/comparison").absolute(), metavar="DIR",
        help="output folder (default: runs/comparison)",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    render(given.directories, given.out)
    print(f"wrote {', '.join(short_path(given.out / name) for name in OUTPUTS)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
