"""The growth of the front, and the judgement of the budget."""

import json

import pandas as pd
import pytest
from made_up_search import made_up_files, write

from search.report import trend
from search.report.answer import Answer
from search.report.files import load
from search.report.sections import Sections
from search.selection.area import area_share


def grown(*areas: float) -> pd.DataFrame:
    return pd.DataFrame({"trial_id": "t", "minutes": range(len(areas)), "area": areas})


def journal(directory, trials):
    """A journal in which the trials end in reverse order, a minute apart."""
    events = [{"event": "search", "identity": "x", "settings": {}, "time": 0.0}]
    events += [{"event": "started", "number": n, "parameters": {}, "time": 60.0} for n in trials]
    ends = enumerate(reversed(trials), start=2)
    events += [{"event": "ended", "number": n, "state": "FINISHED", "time": 60.0 * minute} for minute, n in ends]
    (directory / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def test_the_area_grows_in_the_order_in_which_trials_ended(tmp_path):
    directory = write(tmp_path / "run", made_up_files())
    run = load(directory)
    plain = trend.areas(run)
    numbers = [int(name[1:]) for name in run.finished["trial_id"]]
    journal(directory, numbers)
    with_journal = run.minutes | {f"t{int(name[6:]):04d}": at for name, at in load(directory).minutes.items()}
    vars(run)["minutes"] = with_journal
    timed = trend.areas(run)
    assert timed["trial_id"].tolist() == run.finished["trial_id"].tolist()[::-1] != plain["trial_id"].tolist()
    assert timed["minutes"].tolist() == [float(n) for n in range(1, len(numbers) + 1)]
    assert plain["area"].is_monotonic_increasing and timed["area"].is_monotonic_increasing
    points = run.finished[["hr_at_10", "filter_rate"]].to_numpy(dtype=float)
    assert (
        plain["area"].iloc[-1]
        == timed["area"].iloc[-1]
        == pytest.approx(area_share(points, (0.0838, 0.0), (0.0951, 1.0)))
    )
    assert plain["minutes"].isna().all() and len(trend.plots(plain)) == 1 and len(trend.plots(timed)) == 2


@pytest.mark.parametrize(
    ("areas", "gain", "words"),
    [
        ((0.1, 0.5, 0.6, 0.6, 0.6, 0.9, 0.9, 0.9), 0.0, "the budget was enough"),
        ((0.1, 0.5, 0.6, 0.6, 0.6, 0.97, 0.97, 1.0), 0.03, "more trials may still add something"),
        ((0.1, 0.5, 0.6, 0.6, 0.6, 0.8, 0.8, 1.0), 0.2, "the budget was too small"),
    ],
)
def test_the_budget_is_judged_by_the_last_quarter(areas, gain, words):
    assert trend.late_gain(grown(*areas)) == pytest.approx(gain)
    assert trend.sentence(grown(*areas)).startswith("The last 2 of 8 trials brought ") and words in trend.sentence(
        grown(*areas)
    )


@pytest.mark.parametrize("last", [0.9, 0.93, 0.99, 1.0])
@pytest.mark.parametrize("expected", [None, 0.001, 0.05])
def test_section_and_finding_agree_on_whether_more_trials_pay(monkeypatch, tmp_path, last, expected):
    files = made_up_files()
    files["provenance.json"]["search"]["expected_gain"] = expected
    answer = Answer(load(write(tmp_path / "run", files)))
    grown = pd.DataFrame({"area": [0.1, 0.5, 0.6, 0.6, 0.6, last, 1.0, 1.0]})
    monkeypatch.setattr(trend, "areas", lambda run: grown)
    found = [finding.title for finding in answer.findings if finding.title.startswith("More trials")]
    enough = "the budget was enough" in Sections(answer).sentences()["budget"]
    assert found == ([] if expected is None else ["More trials would hardly pay" if enough else "More trials may pay"])


def test_few_trials_or_no_area_say_nothing():
    assert trend.late_gain(grown(0.5, 0.6)) is None and trend.sentence(grown(*[0.0] * 9)) == ""
    assert trend.plots(grown(0.5)) == []
