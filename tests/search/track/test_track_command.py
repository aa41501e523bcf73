"""`python -m search.track DIR` copies the files to MLflow, whatever the store holds of them already."""

import contextlib
import errno
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import mlflow
import pandas as pd
import psutil
import pytest
import test_interrupt
import yaml
from mlflow.entities import Run

from search.records.journal import held
from search.records.records import Records
from search.records.states import Ending, State
from search.records.trials_table import METRICS
from search.track import __main__ as track

TRIALS, FRONT = 6, ("trial-0000", "trial-0003")
CURVE = {"samples": [100.0, 200.0], "hr_at_10": [0.25, 0.5], "filter_rate": [0.0, 1.0]}
STATES = ["FINISHED", "FAILED", "KILLED", "FINISHED", "FINISHED", "KILLED"]


def result(number: int) -> dict[str, float]:
    return dict.fromkeys(METRICS, (number + 1) / 7) | {"filtered_by_seen": 0.0, "filtered_by_chance": 0.0}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_store: bytes) -> Path:
    """The folder of a search whose process was killed in its last trial after an earlier end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(track, "RETRY_SECONDS", 0)
    Path("mlflow.db").write_bytes(empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    out = tmp_path / "out"
    out.mkdir()
    records = Records(out)
    records.begin({})
    for number in range(TRIALS):
        records.started(number, {"top_k": number})
    for number in (0, 3, 4):
        records.finished(number, result(number), CURVE)
    records.ended(1, State.FAILED, "NotFiniteError: seconds is nan", "Traceback\nNotFiniteError")
    records.ended(2, State.KILLED, "the search was interrupted")
    records.tracked(0, "0" * 32)  # in a store that is no more
    records.parent_tracked("f" * 32)
    spec = {"name": "made-up", "space": {"top_k": {"low": 0, "high": 5}}, "data": {"dataset": "simulated"}}
    (out / "spec.yaml").write_text(yaml.safe_dump(spec))
    kept = [name for name in METRICS if not name.startswith("filtered_by_seen")]
    rows = [{"trial_id": name, **{f"test_{m}": 0.5 for m in kept}} for name in FRONT]
    pd.DataFrame(rows).to_csv(out / "pareto.csv", index=False)
    for name in ("baselines.csv", "report.html", "report.md"):
        (out / name).write_text(name)
    chosen = {"verdict": "use_chosen", "advice": "Use it.", "trial_id": "trial-0003", "set": ["adapt.top_k=3"]}
    (out / "chosen.yaml").write_text(yaml.safe_dump(chosen))
    (out / "pareto.png").write_bytes(b"\x89PNG")
    (out / "model.safetensors").write_bytes(b"not the store's")
    return out


def finish(out: Path) -> None:
    """Resume the search and let it end."""
    Records(out).finished(5, result(5), CURVE)
    search = {"ending": "complete", "finished": 4, "failed": 1, "killed": 1, "hypervolume": 0.4}
    about = {"finished": "2026-11-20T09:47:03+00:00", "search": search}
    (out / "provenance.json").write_text(json.dumps(about))


def runs() -> dict[str, Run]:
    """The runs by trial id, the parent as `search`. Each exists once."""
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("made-up")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    by_name = {run.data.tags.get("trial_id", "search"): run for run in found}
    assert len(by_name) == len(found)
    parent = by_name["search"].info.run_id
    assert {run.data.tags.get("mlflow.parentRunId") for run in found} == {None, parent}
    return by_name


def everything() -> object:
    """Everything that the store holds of the search."""
    client = mlflow.MlflowClient()
    return {
        name: (
            run.to_dictionary(),
            [client.get_metric_history(run.info.run_id, key) for key in sorted(run.data.metrics)],
            [artifact.path for artifact in client.list_artifacts(run.info.run_id)],
        )
        for name, run in runs().items()
    }


def files(out: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in out.iterdir() if file.suffix != ".csv"}


def test_an_empty_store_gets_the_whole_search(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(out)
    assert track.main([str(out)]) == 0
    printed = capsys.readouterr()
    assert "experiment 'made-up'" in printed.out and "7 runs created" in printed.out and printed.err == ""
    assert "4 finished, 1 failed, 1 killed" in printed.out
    found, records = runs(), Records(out)
    assert [found[f"trial-{number:04d}"].info.status for number in range(TRIALS)] == [*STATES[:5], "FINISHED"]
    parent = found["search"]
    front = found["trial-0003"]
    tested = {f"chosen_{name}": value for name, value in front.data.metrics.items() if name.startswith("test_")}
    assert parent.info.status == "FINISHED" and parent.data.metrics == {"hypervolume": 0.4, **tested} and tested
    assert parent.data.params == {"name": "made-up", "space.top_k.low": "0", "space.top_k.high": "5"} | {
        "data.dataset": "simulated",
        "chosen.top_k": "3",
    }
    assert (parent.data.tags["verdict"], parent.data.tags["chosen"]) == ("use_chosen", "trial-0003")
    assert parent.data.tags["mlflow.note.content"].startswith("Use it.\n\nThe front on test:")
    assert parent.info.run_name.startswith("made-up on simulated, ") and front.info.run_name == "k3"
    client = mlflow.MlflowClient()
    artifacts = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert artifacts == {file.name for file in out.iterdir()} - {"model.safetensors"}
    assert {"trials.csv", "trials.jsonl", "baselines.csv", "report.html", "pareto.png"} <= artifacts
    assert [name for name, run in sorted(found.items()) if run.data.tags.get("pareto")] == list(FRONT)
    idle = ("filtered_by_chance", "filtered_by_seen", "test_filtered_by_seen")  # 0 in every trial
    expected = result(3) | {
        **{f"test_{name}": 0.5 for name in METRICS},
        "test_filtered_by_seen": 0.0,
        **{"stream_hr_at_10": 0.5, "stream_filter_rate": 1.0},
    }
    assert front.data.metrics == {name: value for name, value in expected.items() if name not in idle}
    assert front.info.start_time == round(records.trials[3].began * 1000)
    assert front.info.end_time == round(records.trials[3].ended * 1000)
    assert "error" in found["trial-0001"].data.tags and "traceback" in found["trial-0001"].data.tags
    assert {t.trial_id: t.mlflow_run_id for t in records.snapshot()} == {
        name: run.info.run_id for name, run in found.items() if name != "search"
    }
    assert records.parent_run_id == parent.info.run_id
    assert list(pd.read_csv(out / "trials.csv").mlflow_run_id) == [t.mlflow_run_id for t in records.snapshot()]


def test_a_second_run_changes_nothing(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(out)
    assert track.main([str(out)]) == 0
    before = (everything(), files(out), (out / "trials.csv").read_bytes())
    capsys.readouterr()
    assert track.main([str(out)]) == 0
    assert "nothing was missing" in capsys.readouterr().out
    assert (everything(), files(out), (out / "trials.csv").read_bytes()) == before


def test_what_was_cut_off_is_closed_as_killed_in_store_and_files(out: Path) -> None:
    track.main([str(out)])
    found = runs()
    assert [found[f"trial-{number:04d}"].info.status for number in range(TRIALS)] == STATES
    assert found["search"].info.status == "KILLED"
    assert list(pd.read_csv(out / "trials.csv").state) == STATES
    assert found["trial-0005"].data.tags["error"] == Records(out).trials[5].error == track.CUT_OFF
    before = (everything(), files(out))
    track.main([str(out)])
    assert (everything(), files(out)) == before


def test_an_end_from_before_the_search_went_on_does_not_count(out: Path) -> None:
    finish(out)
    records = Records(out)
    records.started(6, {"top_k": 6})
    track.main([str(out)])
    assert runs()["search"].info.status == "KILLED"


@pytest.mark.parametrize("damage", ["run deleted", "parent deleted", "left running", "half a curve", "no artifacts"])
def test_a_store_that_holds_a_part_gets_the_rest(out: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(out)
    client = mlflow.MlflowClient()
    if damage == "half a curve":
        real, calls = mlflow.MlflowClient.set_terminated, []

        def dies(*arguments: object, **options: object) -> None:
            calls.append(arguments)
            if len(calls) > 2:
                raise KeyboardInterrupt
            real(*arguments, **options)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(mlflow.MlflowClient, "set_terminated", dies)
            assert track.main([str(out)]) == 130
        assert {run.info.status for run in runs().values()} == {"FINISHED", "FAILED", "RUNNING"}
    else:
        assert track.main([str(out)]) == 0
    kept = runs()["search"].info.run_id
    match damage:
        case "run deleted":
            client.delete_run(runs()["trial-0003"].info.run_id)
        case "parent deleted":
            client.delete_run(kept)
        case "left running":
            client.update_run(runs()["trial-0001"].info.run_id, status="RUNNING")
            client.delete_tag(runs()["trial-0001"].info.run_id, "error")
        case "no artifacts":
            client.delete_tag(kept, "etarec.artifacts")
            (Path(client.get_run(kept).info.artifact_uri.removeprefix("file://")) / "report.md").unlink()
    assert track.main([str(out)]) == 0
    found = runs()
    assert len(found) == TRIALS + 1 and (damage == "parent deleted") == (found["search"].info.run_id != kept)
    assert {run.info.status for name, run in found.items() if name not in ("trial-0001", "trial-0002")} == {"FINISHED"}
    assert found["trial-0001"].info.status == "FAILED" and "error" in found["trial-0001"].data.tags
    history = client.get_metric_history(found["trial-0000"].info.run_id, "stream_hr_at_10")
    assert [(point.step, point.value) for point in history] == [(100, 0.25), (200, 0.5)]
    assert "report.md" in {artifact.path for artifact in client.list_artifacts(found["search"].info.run_id)}


def test_another_store_gets_the_search_too(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    track.main([str(out)])
    first = {name: run.info.run_id for name, run in runs().items()}
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mlflow.db").write_bytes((tmp_path / "mlflow.db").read_bytes()[:0])
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other/mlflow.db")
        track.main([str(out)])
        assert {name: run.info.status for name, run in runs().items()}.keys() == first.keys()
        assert first.keys() & set(runs()) and not set(first.values()) & {run.info.run_id for run in runs().values()}
    track.main([str(out)])
    assert {name: run.info.run_id for name, run in runs().items()} == first


def test_a_copied_folder_is_the_same_search(out: Path, tmp_path: Path) -> None:
    finish(out)
    shutil.copytree(out, tmp_path / "copy")
    track.main([str(out)])
    before = {name: run.info.run_id for name, run in runs().items()}
    assert track.main([str(tmp_path / "copy")]) == 0
    assert {name: run.info.run_id for name, run in runs().items()} == before


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda out: "missing", "no such folder"),
        (lambda out: (out / "trials.jsonl").unlink(), "no trials.jsonl, expected the folder of a search"),
        (lambda out: (out / "trials.jsonl").write_text(""), "no search has begun in it, expected its trials; start it"),
        (lambda out: (out / "trials.jsonl").write_text("5\n"), "trials.jsonl: line 1 is damaged"),
        (lambda out: (out / "spec.yaml").unlink(), "spec.yaml: cannot be read"),
        (lambda out: (out / "spec.yaml").write_text("a: ["), "spec.yaml: cannot be parsed"),
        (
            lambda out: (out / "spec.yaml").write_text("a: 1"),
            "spec.yaml: name: given null, expected the search's name;",
        ),
        (lambda out: (out / "provenance.json").write_text("{"), "provenance.json: cannot be parsed"),
        (lambda out: (out / "provenance.json").write_text("5"), "provenance.json: given 5, expected a mapping"),
        (
            lambda out: (out / "pareto.csv").write_text("trial_id\ntrial-0099\n"),
            'pareto.csv: trial_id: given "trial-0099", expected the id of a trial in trials.jsonl; restore the file',
        ),
        (
            lambda out: (out / "pareto.csv").write_text("trial_id,test_filter_rate\ntrial-0000,many\n"),
            'pareto.csv: row trial-0000, column test_filter_rate: given "many", expected a number; restore the file',
        ),
    ],
)
def test_what_the_user_can_fix_is_one_line_and_status_2(
    out: Path, capsys: pytest.CaptureFixture[str], break_it, message: str
) -> None:
    other = break_it(out)
    assert track.main([str(out / other if other == "missing" else out)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (errno.EACCES, 2, "expected a file that this user can read and write"),
        (errno.ENOSPC, 1, "No space left on device; free space there"),
    ],
)
def test_a_journal_that_cannot_be_written_is_one_line(
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    status: int,
    words: str,
) -> None:
    def fail(journal: Path, event: dict[str, object]) -> None:
        raise OSError(code, os.strerror(code), str(journal))

    monkeypatch.setattr("search.records.journal.append", fail)
    assert track.main([str(out)]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {out / 'trials.jsonl'}: ") and words in line


def test_the_parent_of_a_search_in_which_every_trial_failed_has_failed(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.begin({})
    records.started(0, {"top_k": 1})
    records.ended(0, State.FAILED, "why")
    search = {"ending": str(Ending.ALL_FAILED), "finished": 0, "failed": 1, "killed": 0}
    (tmp_path / "provenance.json").write_text(json.dumps({"search": search}))
    assert track.read_outcome(tmp_path, records).state is State.FAILED


def test_a_store_that_is_away_is_named_without_its_password(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ada:secret@127.0.0.1:9")
    assert track.main([str(out)]) == 2
    printed = capsys.readouterr().err
    assert "http://...@127.0.0.1:9 cannot be reached (connection refused)" in printed and "secret" not in printed


def hold(directory: Path, ready: Connection) -> None:
    with held(directory):
        ready.send("held")
        ready.recv()


def test_a_search_that_runs_is_left_alone(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(out, there))
    process.start()
    assert here.recv() == "held"
    before = files(out)
    assert track.main([str(out)]) == 2
    assert "a search is still running here" in capsys.readouterr().err and files(out) == before
    process.kill()  # and a killed one holds nothing
    process.join()
    assert track.main([str(out)]) == 0


@pytest.mark.slow
def test_it_is_a_command_that_finds_the_default_store(out: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    environment.pop("MLFLOW_TRACKING_URI")
    command = [sys.executable, "-m", "search.track", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0 and "7 runs created" in done.stdout and done.stderr == "", done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert len(runs()) == TRIALS + 1


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_killed_search_whose_store_is_lost_is_tracked_and_then_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    search = test_interrupt.start(tmp_path)
    test_interrupt.wait_for_finished(search, tmp_path, 3)
    assert track.main([str(tmp_path / "out")]) == 2 and "still running" in capsys.readouterr().err
    relatives = test_interrupt.family(search)
    os.killpg(search.pid, signal.SIGKILL)
    search.wait()
    for relative in relatives:
        with contextlib.suppress(psutil.NoSuchProcess):
            relative.kill()
    (tmp_path / "mlflow.db").unlink()
    assert track.main([str(tmp_path / "out")]) == 0, capsys.readouterr().err
    records = Records(tmp_path / "out")
    assert not records.in_state(State.RUNNING) and len(records.in_state(State.FINISHED)) >= 3
    store = mlflow.MlflowClient()
    found = store.search_runs([store.get_experiment_by_name("formula").experiment_id])  # type: ignore[union-attr]
    assert {run.data.tags.get("trial_id", "search"): run.info.status for run in found} == {
        **{trial.trial_id: str(trial.state) for trial in records.snapshot()},
        "search": "KILLED",
    }
    assert test_interrupt.start(tmp_path, "resume").wait(timeout=600) == 0, (tmp_path / "output").read_text()
    test_interrupt.assert_complete(tmp_path)
    assert track.main([str(tmp_path / "out")]) == 0 and "nothing was missing" in capsys.readouterr().out
