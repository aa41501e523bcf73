"""Rules that end trials early, replayed on the journal of a search whose trials were all measured to their end."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from search.records.records import Records
from search.records.trial import Anchor
from search.selection.paired import Outcomes, users_text
from search.spec import Spec, load
from tests.benchmarks import pruning

SAMPLES = 2000
ORDER = np.random.default_rng(0).permutation(SAMPLES) / SAMPLES  # how hard each sample is, for all configurations
STRONG, WEAK, LATE, OTHER = range(4)


def outcomes(hits: float, rate: float, late: bool = False) -> tuple[Outcomes, dict[str, float]]:
    """A configuration's samples and metrics; a late one hits nothing in the first 8% of the stream, and all after."""
    hit = np.arange(SAMPLES) >= 0.08 * SAMPLES if late else hits > ORDER
    skipped = ORDER[::-1] < rate
    metrics = {"hr_at_10": float(hit.mean()), "filter_rate": float(skipped.mean())}
    return Outcomes.of(np.where(hit, 0, 99), ~skipped), metrics


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Spec, Path]:
    """A search with four trials, one at a time: the weak one is beaten, and the late one for a while."""
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump({"space": {"entropy_quantile": {"low": 0.1, "high": 1.0}}}))
    records = Records(tmp_path)
    records.streaming(users_text(np.repeat(np.arange(SAMPLES // 5), 5)))
    for name, kind in {"none": outcomes(0.3, 1.0), "all": outcomes(0.5, 0.0)}.items():
        records.anchored(Anchor(name, {}, kind[1], kind[0].text()))
    trials = {STRONG: outcomes(0.55, 0.6), WEAK: outcomes(0.35, 0.2), LATE: outcomes(0, 0.3, True)}
    for number, (mine, metrics) in {**trials, OTHER: outcomes(0.45, 0.8)}.items():
        records.started(number, {"entropy_quantile": 0.2 + number / 10})
        records.finished(number, {**metrics, "seconds": 10.0 if number == WEAK else 5.0}, {}, mine.text())
    return load(file), tmp_path


def test_a_rule_saves_the_rest_of_the_trials_that_it_ends(searched: tuple[Spec, Path]) -> None:
    spec, folder = searched
    found = pruning.replayed(spec, Records(folder), z=3.0, begin=0.2, concurrency=1)
    assert (found.ended, found.lost, found.kept) == (1, 0, 1.0)  # at 20% the late one hits too
    assert found.samples == pytest.approx(0.8 / 4) and found.seconds == pytest.approx(0.8 * 10 / 25)


def test_a_rule_that_ends_a_point_of_the_front_loses_its_area(searched: tuple[Spec, Path]) -> None:
    """At 10% of the stream the late trial looks hopeless; at the end its quality is the highest, 0.92."""
    spec, folder = searched
    found = pruning.replayed(spec, Records(folder), z=3.0, begin=0.1, concurrency=1)
    assert (found.ended, found.lost) == (2, 1)
    left = (0.55 - 0.3) * 0.6 + (0.45 - 0.3) * 0.2
    assert found.kept == pytest.approx(left / (left + (0.92 - 0.55) * 0.3), abs=1e-3)
    assert found.samples == pytest.approx(2 * 0.9 / 4)


def test_no_trial_is_ended_by_results_that_its_suggestion_did_not_know(searched: tuple[Spec, Path]) -> None:
    spec, folder = searched
    assert pruning.replayed(spec, Records(folder), z=3.0, begin=0.2, concurrency=4).ended == 0
    assert pruning.replayed(spec, Records(folder), z=1e9, begin=0.1, concurrency=1).ended == 0


def test_the_command_prints_a_row_for_each_rule(
    searched: tuple[Spec, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pruning", str(searched[1]), "--concurrency", "1"])
    pruning.main()
    printed = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("|")]
    assert [row[:2] for row in rows[2:]] == [[f"{z:g}", f"{begin:.0%}"] for z, begin in pruning.RULES]
    assert rows[2][2:4] == ["2", "45%"] and rows[0][0] == "z"
