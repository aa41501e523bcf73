"""The search from the command line: `python -m search.tune --space FILE`."""

import argparse
import sys
from dataclasses import replace

from etarec.command_line import absolute_path, exit_status, experiment_parser
from etarec.config import UserError
from search.records.folder import check_directory, default_directory
from search.redact import of_error, redacting
from search.running.address import use_cluster_token
from search.spec import Spec, load


@exit_status(interrupted="interrupted", redact=of_error)
def main() -> int:
    """Exit status: see `Ending.exit_status`, 2 for what the user can fix, 130 for Ctrl-C."""
    arguments = parse()
    with redacting(arguments.address or ""):
        return _search(arguments)


def _search(arguments: argparse.Namespace) -> int:
    spec = resolve(arguments)
    directory = arguments.out or default_directory(spec.name, arguments.resume)
    check_directory(directory, arguments.resume)
    if arguments.accept_changes and not arguments.resume:
        raise UserError("--accept-changes: there is nothing to accept without --resume")
    use_cluster_token(arguments.address)
    # Ray, MLflow and torch take seconds to import: --help and a bad file do not wait for them.
    from search import dry_run, experiment, prepare, warm_start
    from search.console import Console

    earlier = warm_start.Folders(tuple(arguments.warm_start), tuple(arguments.first_trials))
    search = experiment.Experiment(
        spec,
        directory,
        arguments.address,
        arguments.resume,
        arguments.space,
        arguments.accept_changes,
        earlier,
        Console(arguments.output),
    )
    if arguments.dry_run:
        dry_run.dry_run(search)
        return 0
    subject = prepare.prepare(search)
    return experiment.run(search, subject, subject.data.n_items - 1).exit_status


def resolve(arguments: argparse.Namespace) -> Spec:
    """The spec of the file with the command line's changes, and without the file's table, which a search ignores."""
    flags = {name: getattr(arguments, name) for name in ("trials", "max_minutes", "concurrency", "gpus_per_trial")}
    changes = [f"search.{name}={value}" for name, value in flags.items() if value is not None]
    return replace(load(arguments.space, [*arguments.set, *changes]), table=None)


def parse() -> argparse.Namespace:
    parser = experiment_parser("search.tune", "Search for the gate of a recommender that adapts at test time.")
    parser.add_argument(
        "--out", type=absolute_path, metavar="DIR", help="output folder (default: runs/NAME, then runs/NAME-2 ...)"
    )
    parser.add_argument(
        "--warm-start",
        type=absolute_path,
        action="append",
        default=[],
        metavar="DIR",
        help="take the finished trials of an earlier search on the same problem, beside --trials; may be repeated",
    )
    parser.add_argument(
        "--first-trials",
        type=absolute_path,
        action="append",
        default=[],
        metavar="DIR",
        help="measure configurations of an earlier search's front first, maybe one on other data; may be repeated",
    )
    parser.add_argument("--trials", metavar="N", help="number of configurations to measure")
    parser.add_argument("--max-minutes", metavar="M", help="minutes after which no other trial begins")
    parser.add_argument("--concurrency", metavar="N", help="trials that run at once, or auto")
    parser.add_argument(
        "--gpus-per-trial", metavar="F", help="GPUs that each trial reserves, or auto; trials share a GPU by fractions"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="running Ray cluster to use: auto, or HOST:PORT of its head"
    )
    parser.add_argument("--resume", action="store_true", help="finish the search in the output folder")
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="with --resume: go on although spec, data, checkpoint or code have changed, and record the changes",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything, time one trial and print the plan; write nothing"
    )
    output = parser.add_mutually_exclusive_group()
    output.set_defaults(output="text")
    output.add_argument(
        "--quiet", dest="output", action="store_const", const="quiet", help="print only warnings and the verdict"
    )
    output.add_argument(
        "--json", dest="output", action="store_const", const="json", help="print one JSON object a line, for programs"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
