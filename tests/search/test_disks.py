"""Disks that fill up or become read-only under a search through Ray: one message, whole files, nothing lost."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
import yaml
from small_disk import disk

from search.records.records import Records
from search.records.states import State
from tests.faults.stage import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]
HERE = Path(__file__).parent
TRIALS, SECONDS = 6, 400
Start = Callable[..., "subprocess.Popen[bytes]"]
PROGRAM = """
import sys, formula_search
from etarec.command_line import exit_status
sys.exit(exit_status(interrupted="interrupted")(formula_search.main)())
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a search in the test's folder; what still runs at the end of the test is killed."""
    begun: list[subprocess.Popen[bytes]] = []

    def one(*extra: str, sleep: float = 0.0, **variables: str) -> "subprocess.Popen[bytes]":
        paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
        environment = {**os.environ, "PYTHONPATH": paths, **variables}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(TRIALS), str(sleep), *extra]
        with (tmp_path / "output").open("w") as out, (tmp_path / "errors").open("w") as err:
            begun.append(
                subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=out, stderr=err, start_new_session=True)
            )
        return begun[-1]

    yield one
    for search in begun:
        with suppress(ProcessLookupError):
            os.killpg(search.pid, signal.SIGKILL)


def fault(search: "subprocess.Popen[bytes]", folder: Path) -> str:
    """The one message of a search that a disk ended, without its file's folder."""
    status, err = search.wait(timeout=SECONDS), (folder / "errors").read_text()
    assert status == 1, err
    (message,) = err.splitlines()
    assert message.startswith("error: ") and "--resume" in message
    return message.removeprefix("error: ").rpartition("/out/")[2]


def finished(out: Path) -> int:
    return len(Records(out).in_state(State.FINISHED)) if (out / "trials.jsonl").exists() else 0


def assert_whole(out: Path) -> None:
    """Assert that every result file that is there can be read to its end."""
    for path in out.iterdir():
        text = "" if path.suffix == ".png" else path.read_text(encoding="utf-8")
        match path.suffix:
            case ".csv":
                assert path.name == "stream.csv" or "trial_id" in pd.read_csv(path)
            case ".yaml":
                assert yaml.safe_load(text)
            case ".json":
                assert json.loads(text)
            case ".html" | ".svg":
                assert text.rstrip().endswith(("</html>", "</svg>"))
            case ".png":
                assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
            case _:
                assert path.name in ("trials.jsonl", "report.md")


# Pages and files for which the disk has room, and the files of which one does not fit any more: the table before the
# first trial, an anchor, a trial's end, the documents about the front, and the report.
STAGES = [
    (64, 2, {"trials.csv"}),
    (7, 30, {"trials.jsonl", "trials.csv"}),
    (9, 30, {"trials.jsonl", "trials.csv"}),
    (17, 30, {"pareto.csv", "baselines.csv", "stream.csv", "chosen.yaml", "provenance.json"}),
    (100, 30, {"report.html"}),
]


def test_a_search_whose_disk_is_full_at_every_stage_goes_on_where_it_ended(start: Start, tmp_path: Path) -> None:
    out, before = tmp_path / "out", b""
    with disk(out) as its_disk:
        for pages, inodes, files in STAGES:
            its_disk.resize(pages=pages, inodes=inodes)
            file, _, words = fault(start(*["resume"] * bool(before)), tmp_path).partition(": ")
            assert file in files and words.startswith("No space left on device; free space there")
            assert_whole(out)
            journal = (out / "trials.jsonl").read_bytes()
            assert journal.startswith(before[: before.rfind(b"\n") + 1])
            before = journal
        its_disk.resize(pages=16384)
        assert start("resume").wait(timeout=SECONDS) == 0
        assert_whole(out)
        table = pd.read_csv(out / "trials.csv")
        assert list(table.state) == ["FINISHED"] * TRIALS
        assert not table.duplicated(["top_k", "entropy_quantile", "cosine_threshold"]).any()
        events = [json.loads(line) for line in (out / "trials.jsonl").read_text().splitlines()]
        ends = [event["number"] for event in events if event.get("state") == "FINISHED"]
        assert sorted(ends) == list(range(TRIALS))


def test_a_disk_that_becomes_read_only_ends_a_search_that_can_be_resumed(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with disk(out) as its_disk:
        search = start(sleep=0.3)
        wait_until("two finished trials", lambda: finished(out) >= 2, SECONDS)
        with its_disk.read_only():
            assert fault(search, tmp_path).startswith("trials.jsonl: Read-only file system; make it writable again")
        assert_whole(out)
        before = finished(out)
        assert start("resume").wait(timeout=SECONDS) == 0
        assert before < finished(out) == TRIALS


def test_a_full_folder_for_temporary_files_stops_no_search_that_runs(start: Start, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="e", dir="/tmp") as base, disk(Path(base)):  # short: sockets lie below
        search = start(sleep=0.3, RAY_TMPDIR=base)
        wait_until("a finished trial", lambda: finished(tmp_path / "out") >= 1, SECONDS)
        with pytest.raises(OSError, match="No space left"):
            Path(base, "filler").write_bytes(bytes(2**27))
        assert search.wait(timeout=SECONDS) == 0, (tmp_path / "errors").read_text()
        assert finished(tmp_path / "out") == TRIALS
