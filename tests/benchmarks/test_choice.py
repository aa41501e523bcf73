"""The choice from half of the users, on the journal of a made-up search whose best trials differ by luck alone."""

import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from search.records.records import Records
from search.records.trial import Anchor
from search.selection.paired import Outcomes, users_text
from search.spec import Spec, load
from tests.benchmarks import choice

SAMPLES, TRIALS = 2000, 40
SPEC = {
    "space": {"entropy_quantile": {"low": 0.1, "high": 1.0}},
    "search": {"choose": {"tolerance": 0}, "constraints": {"hr_at_10": ">= 0.5 * all"}},
}


@pytest.fixture
def searched(tmp_path: Path) -> tuple[Spec, Path]:
    """A search whose trials hit half of the samples by chance, and fewer where they skip more than half of them.

    Adapting on everything hits every other sample.
    """
    file, drawn = tmp_path / "spec.yaml", np.random.default_rng(0)
    file.write_text(yaml.safe_dump(SPEC))
    records = Records(tmp_path)
    records.streaming(users_text(np.repeat(np.arange(SAMPLES // 5), 5)))

    def outcomes(rate: float) -> tuple[dict[str, float], str]:
        hit = drawn.random(SAMPLES) < 0.5 - 0.3 * max(rate - 0.5, 0) if rate else np.arange(SAMPLES) % 2 == 0
        one = Outcomes.of(np.where(hit, 0, 99), np.arange(SAMPLES) >= rate * SAMPLES)
        return {"hr_at_10": float(hit.mean()), "filter_rate": rate}, one.text()

    records.anchored(Anchor("all", {}, *outcomes(0.0)))
    for number in range(TRIALS):
        records.started(number, {"entropy_quantile": 0.2 + number / 60})
        metrics, text = outcomes(0.8 - number / 60)
        records.finished(number, metrics, {}, text)
    return load(file), tmp_path


def test_the_measured_choice_promises_what_the_other_half_does_not_hold(searched: tuple[Spec, Path]) -> None:
    spec, folder = searched
    gaps = {}
    for kind in ("measured", "modelled"):
        found = list(choice.judged(spec, Records(folder), kind, splits=8))
        assert len(found) == 8 and all(one.kept for one in found)
        gaps[kind] = np.mean([one.chosen["hr_at_10"] - one.held["hr_at_10"] for one in found])
    assert gaps["measured"] > 0.02 and gaps["modelled"] < 0.5 * gaps["measured"], gaps


def test_the_metrics_of_a_half_are_those_of_its_samples(searched: tuple[Spec, Path]) -> None:
    records = Records(searched[1])
    half = np.arange(SAMPLES) < SAMPLES // 2
    hits = Outcomes.read(records.anchors["all"].outcomes).ranks == 0
    assert choice._half(records, half)["all"]["hr_at_10"] == hits[half].mean()
    assert choice._half(records, half)["all"]["filter_rate"] == 0.0


def test_the_table_names_both_fronts(searched, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["choice", str(searched[1]), "--splits", "2"])
    choice.main()
    out = capsys.readouterr().out
    assert "| measured |" in out and "| modelled |" in out and "constraints kept" in out
