"""The lines of a search on a terminal of 80 columns."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from spaces import floats, integers, make

from etarec.config import AdaptConfig
from etarec.readers import Reading
from search.console import WIDTH, Console
from search.records import Ending, Records, State
from search.running.plan import Plan
from search.selection.front import Point, Selection
from search.selection.pareto import Choice
from search.spec import Spec

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


def selection(reason: str = "It skips the most.") -> Selection:
    test = measurement(1.0)
    points = [Point(name, AdaptConfig(top_k=500), test.metrics(), test) for name in ("trial-0001", "random 96%")]
    return Selection(points[:1], points[1:], Choice(0, reason), 0.5)


def too_long(text: str) -> list[str]:
    return [line for line in text.splitlines() if len(line) > WIDTH]


def test_every_line_before_the_first_trial_fits(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    console.data(spec, DATA)
    console.checkpoint(spec, CHECKPOINT, FILE)
    console.rehearsal(spec, DATA, CHECKPOINT, FILE)
    console.to_rehearse(DATA)
    console.plan(spec, PLAN, Path("runs/demo").absolute())
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
        "0.0625 GPU each",
    ):
        assert words in out
    labels = re.findall(r"^(\w+) +", out, flags=re.MULTILINE)
    expected = (
        "data checkpoint rehearsal rehearsal search searched resources note training pilot expected MLflow nothing"
    )
    assert labels == expected.split()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_result_fits_and_names_every_number(
    spec: Spec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setenv("FORCE_COLOR" if terminal else "NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.chdir(tmp_path)
    records = Records(tmp_path)
    records.started(0, {"top_k": 2})
    records.ended(0, State.FAILED, "no reason")
    Console().result(spec, records, selection("It skips 100.0% of the passes, " * 5), tmp_path, Ending.INTERRUPTED)
    out = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert [line for line in too_long(out) if not line.startswith("warning: ")] == []
    header, row, baseline = re.findall(r".*(?:quantile|trial-0001  |random 96%).*", out)
    assert header.split() == ["top_k", "quantile", "threshold", "filter", "rate", "HR@10", "filter", "rate", "HR@10"]
    assert row.split()[:2] == ["trial-0001", "500"] and row.split()[-4:] == ["100.0%", "0.1234"] * 2
    assert baseline.split() == ["random", "96%", *["100.0%", "0.1234"] * 2]
    assert "trials      1 failed\n" in out and "report      report.html\n" in out
    assert "the search ended early (interrupted), so nothing is reported from test; --resume continues it" in out


def test_markup_in_names_is_text(spec: Spec, capsys: pytest.CaptureFixture[str]) -> None:
    Console().prose("chosen", "a [bold]name[/bold]")
    assert capsys.readouterr().out == "chosen      a [bold]name[/bold]\n"
