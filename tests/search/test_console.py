"""The output of a search: lines on a terminal of 80 columns, the verdict alone, and JSON for programs."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up_search import made_up_files, write
from spaces import floats, integers, make

from etarec.readers import Reading
from search import console as console_module
from search.console import Console, Output
from search.lines import WIDTH
from search.records.records import Records
from search.records.start import Source
from search.records.states import Ending, State
from search.report.answer import Answer
from search.report.files import load
from search.running.plan import Plan
from search.spec import Spec
from search.spec.dimension import Dimension

CHECKPOINT: Any = SimpleNamespace(epochs=123, valid={"hr_at_10": 0.1234, "ndcg_at_10": 0.0567})
FILE = Path(".cache/etarec/ttt4rec-0123456789abcdef.safetensors").absolute()
PLAN = Plan(16, 4, 4.0, 0.0625, "64 cores, memory for 120, 1 GPU for 16", note="memory for 3 trials is free now " * 4)


class Data:
    """Ten million interactions, as far as the console looks at them."""

    n_users, n_items = 1_234_567, 1_000_001

    reading = Reading(("text in UTF-8",), dropped=("5 of 9 rows (data.drop: duplicates)",), doubts=("user 'NA'",))

    def sample_counts(self) -> dict[str, int]:
        return {"train": 3_765_432, "valid": 1_234_567, "test": 4_765_432}


DATA: Any = Data()


@pytest.fixture
def spec() -> Spec:
    gate = {"entropy_quantile": floats(0.05, 1.0), "cosine_threshold": floats(0.01, 1.0, log=True)}
    return make(top_k=integers(2, 500, log=True), **gate)


def measurement(seconds: float) -> Any:
    metrics = {"filter_rate": 1.0, "hr_at_10": 0.1234}
    return SimpleNamespace(seconds={"seconds": seconds}, metrics=lambda: metrics)


def too_long(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > WIDTH]


def test_every_line_before_the_first_trial_fits(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.data(spec, DATA)
    console.checkpoint(spec, CHECKPOINT, FILE)
    console.to_rehearse(DATA)
    console.rehearsal(spec, DATA, CHECKPOINT, FILE)
    earlier = [Source(str(Path("runs/mine").absolute()), "", trials=30), Source("/runs/other", "", first=1)]
    console.plan(spec, PLAN, Path("runs/demo").absolute(), earlier)
    console.pilot(spec, PLAN, measurement(12.3), measurement(123.4), 123.4, DATA)
    out = capsys.readouterr().out
    assert too_long(out) == []
    assert "            left out: 5 of 9 rows (data.drop: duplicates)\n" in out and "\nwarning: user 'NA'\n" in out
    for words in (
        "1,000,000 items",
        "            text in UTF-8\n",
        "epoch 123",
        "on the 1,234,567 samples",
        "log scale",
        "top_k (k) 2 to 500",
        "0.0625 GPU each",
        "\nearlier     30 trials of runs/mine\n            1 first trial from the front of /runs/other\n",
    ):
        assert words in out
    labels = re.findall(r"^(\w+) +", out, flags=re.MULTILINE)
    expected = (
        "data checkpoint rehearsal rehearsal search searched earlier resources note training pilot expected MLflow "
        "nothing"
    )
    assert labels == expected.split()


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("tested", [True, False])
def test_the_result_fits_and_names_every_number(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    tested: bool,
    spec: Spec,
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.chdir(tmp_path)
    files = made_up_files("ndcg_at_10")
    if not tested:
        for name in ("pareto.csv", "baselines.csv"):
            files[name] = files[name][[column for column in files[name] if "test" not in column]]
    directory = write(tmp_path / "run", files)
    records = Records(tmp_path)
    for number in range(2):
        records.started(number, {"top_k": 2})
    records.finished(0, {}, {})
    records.ended(1, State.FAILED, "no reason")
    ending = Ending.COMPLETE if tested else Ending.INTERRUPTED
    Console().result(spec, records, Answer(load(directory)), directory, ending)
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line for line in too_long(out) if not line.startswith(("warning: ", "            python"))] == []
    above, header = re.findall(r".*(?:skipped NDCG|valid +valid).*", out)
    names = list(zip(above.split(), header.split()[1:6], strict=True))
    assert len({*names}) == 5 and names[3] == ("test", "NDCG@10")
    row = re.search(rf"^{files['chosen.yaml']['trial_id']} \*.*$", out, flags=re.MULTILINE)
    assert row is not None and ("k" in row[0].split()[2]) and "random 36%" not in out
    assert "trials      1 finished, 1 failed\n" in out and "report      run/report.html\n" in out
    assert ("on test" in header) and ("as random" in out or "holds" in out or not tested)
    assert "empty on test" not in out
    verdict = out[out.index("verdict ") :]
    assert verdict.index("findings ") < verdict.index("next ") and "--space run/spec.yaml" in verdict
    said = "the search ended early (interrupted), so nothing is reported from test; --resume continues it"
    assert (said in " ".join(out.split())) is not tested


@pytest.mark.parametrize("columns", ["0", "20"])
def test_a_narrow_terminal_breaks_no_number(
    spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("FORCE_COLOR", "1")
    files, records = made_up_files("hr_at_10"), Records(tmp_path)
    records.started(0, {"top_k": 2})
    records.finished(0, {}, {})
    directory = write(tmp_path / "run", files)
    with (console := Console()).phase("Ray", 2) as phase:
        phase.advance(note="a note")
    console.result(spec, records, Answer(load(directory)), directory, Ending.COMPLETE)
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    row = re.search(rf"^{files['chosen.yaml']['trial_id']} \*.*$", out, flags=re.MULTILINE)
    assert console.out.is_terminal and row is not None and "%" in row[0]


def test_a_long_configuration_leaves_the_table_and_wraps_in_a_trial_s_line(
    spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    files = made_up_files()
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        files[name] = files[name].assign(optimizer="adam", learning_rate=0.00012)
    choices = {"optimizer": {"choices": ["adam", "sgd"]}, "learning_rate": {"low": 0.0001, "high": 0.001}}
    files["spec.yaml"]["space"] |= choices
    directory = write(tmp_path / "run", files)
    records = Records(tmp_path)
    parameters = {"top_k": 123, "entropy_quantile": 0.123, "cosine_threshold": 0.456, "optimizer": "adam"}
    records.started(0, parameters)
    metrics = {"hr_at_10": 0.25, "filter_rate": 0.8, "filtered_by_seen": 0.6, "arithmetic": 0.47, "seconds": 12.3}
    records.finished(0, metrics, {})
    records.started(1, parameters)
    records.ended(1, State.FAILED, "ValueError: a reason that is too long for one line of eighty columns of a terminal")
    console = Console()
    optimizer = Dimension(kind="choices", choices=("adam", "sgd"))
    with console.trials(replace(spec, space={**spec.space, "optimizer": optimizer}), records) as show:
        show(records.trials[0])
        show(records.trials[1])
    console.result(spec, records, Answer(load(directory)), directory, Ending.COMPLETE)
    out = capsys.readouterr().out
    assert "configuration  " not in out and "opti=adam" in out
    assert "trial-0000  HR@10 0.2500  skipped 50.0%  compute 47%  12.3 s" in out
    assert "FAILED  k123 q.12 c.46 opti=adam" in out
    assert [line for line in too_long(out) if not line.startswith(("warning: ", " " * 12, "report"))] == []


def test_markup_in_names_is_text(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    Console().prose("chosen", "a [bold]name[/bold]")
    assert capsys.readouterr().out == "chosen      a [bold]name[/bold]\n"


def test_the_plan_is_printed_once_and_its_resources_again_where_they_differ(
    spec: Spec, capsys: pytest.CaptureFixture[str]
) -> None:
    console, folder = Console(), Path("runs/demo").absolute()
    console.plan(spec, PLAN, folder)
    console.plan(spec, replace(PLAN, limit="64 cores, memory for 97", note=""), folder)
    assert len(re.findall("^(search|resources) ", capsys.readouterr().out, flags=re.MULTILINE)) == 2
    console.plan(spec, replace(PLAN, concurrency=8), folder)
    out = capsys.readouterr().out
    assert "resources   8 trials at once" in out and "searched" not in out


def whole_search(spec: Spec, folder: Path, output: Output) -> None:
    console, records = Console(output), Records(folder)
    console.data(spec, DATA)
    console.checkpoint(spec, CHECKPOINT, FILE)
    console.plan(spec, PLAN, folder)
    with console.measuring("baselines", "validation") as phase:
        phase.expect(2)
        phase.advance()
        phase.advance()
    with console.trials(spec, records) as show:
        records.started(0, {"top_k": 2, "entropy_quantile": 0.5, "cosine_threshold": 0.5})
        show(records.trials[0])
        metrics = {"hr_at_10": 0.25, "filter_rate": 0.5, "arithmetic": 0.5, "seconds": 1.0}
        records.finished(0, metrics, {})
        show(records.trials[0])
    console.result(spec, records, Answer(load(write(folder / "run", made_up_files()))), folder / "run", Ending.COMPLETE)


def test_json_is_one_object_a_line_and_nothing_else(
    spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    whole_search(spec, tmp_path, "json")
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert printed.err == ""
    kinds = list(dict.fromkeys(event["event"] for event in events))
    assert kinds == ["data", "warning", "checkpoint", "search", "resources", "progress", "trial", "result"]
    steps = [(event["phase"], event["done"], event["total"]) for event in events if event["event"] == "progress"]
    assert steps[:3] == [("baselines", 0, 2), ("baselines", 1, 2), ("baselines", 2, 2)]
    assert steps[-1] == ("search", 1, spec.search.trials)
    best = [event["best"] for event in events if "best" in event]
    assert best == [{"trial_id": "trial-0000", "hr_at_10": 0.25, "skipped": 0.5}]
    result = events[-1]
    assert result["verdict"] and result["chosen"] == made_up_files()["chosen.yaml"]["trial_id"]
    assert result["next"].startswith("python -m search.tune") and result["trials"]["FINISHED"] == 1


def test_every_event_is_documented() -> None:
    document = Path(__file__).parents[2].joinpath("docs", "output.md").read_text(encoding="utf-8")
    source = Path(console_module.__file__).read_text(encoding="utf-8")
    events = set(re.findall(r'self\.event\(\s*"(\w+)"', source))
    assert events == set(re.findall(r"^\| `(\w+)` \|", document, flags=re.MULTILINE))


def test_quiet_leaves_warnings_and_the_verdict(spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_search(spec, tmp_path, "quiet")
    printed = capsys.readouterr()
    assert printed.err.startswith("warning: user 'NA'\n")
    assert all(line.startswith("warning: ") for line in printed.err.splitlines())
    labels = re.findall(r"^(\w+) +", printed.out, flags=re.MULTILINE)
    assert labels[0] == "verdict" and set(labels) <= {"verdict", "findings", "checks", "warning", "report", "next"}


def test_a_point_that_was_not_measured_on_test_is_explained(
    spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = made_up_files()
    front, chosen = files["pareto.csv"], files["chosen.yaml"]["trial_id"]
    other = front.index[front["trial_id"] != chosen][0]
    front.loc[other, [name for name in front if name.startswith("test_")]] = float("nan")
    directory, records = write(tmp_path / "run", files), Records(tmp_path)
    records.started(0, {"top_k": 2})
    records.finished(0, {}, {})
    Console().result(spec, records, Answer(load(directory)), directory, Ending.COMPLETE)
    assert "            empty on test: validation cannot tell the point from another one\n" in capsys.readouterr().out
