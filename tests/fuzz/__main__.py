"""Looks for files that a reader does not survive, guided by the code that runs: `python -m tests.fuzz log`.

Needs atheris (pip install atheris), which has no wheels for some versions of Python. A file that was found lies in the
current folder; a second run with its name repeats the fault.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["etarec.readers", "etarec.checkpoint", "etarec.document", "search.records.journal"]
):
    from tests.fuzz.subjects import SUBJECTS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz one reader of foreign files.")
    parser.add_argument("kind", choices=SUBJECTS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("file", nargs="?", help="a file to try once")
    arguments = parser.parse_args()
    read, files = SUBJECTS[arguments.kind]
    corpus = Path(tempfile.mkdtemp(prefix="corpus-"))
    for number, content in enumerate(files()):
        (corpus / str(number)).write_bytes(content)
    places = [arguments.file] if arguments.file else [str(corpus)]
    limits = [f"-max_total_time={arguments.seconds}", "-max_len=4096", "-rss_limit_mb=4096", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *places], read)
    atheris.Fuzz()


main()
