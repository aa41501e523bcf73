"""pareto.csv, baselines.csv and chosen.yaml of a selection from the formula's trials."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml
from measured_formula import N_ITEMS, QUALITIES, SEEN, SPACE, Measured, finished, selected, spec_of

from etarec.config import AdaptConfig
from etarec.serving import Baseline
from search.selection import documents
from search.selection.documents import chosen_document, tables
from search.selection.front import select
from search.spec import Spec, load
from search.subject import Job


def test_the_tables_have_the_contracts_columns(spec: Spec) -> None:
    selection, _, _ = selected(spec, SEEN)
    front, baselines = tables(spec, selection)
    filters = ["filter_rate", "filtered_by_seen", "filtered_by_entropy", "filtered_by_redundancy"]
    expected = {"trial_id", *SPACE, "test_hr_at_10_low", "test_hr_at_10_high", "test_delta_hr_at_10"}
    expected |= {"test_delta_hr_at_10_p", "on_test_front", "test_vs_random_ndcg_at_10_p_holm"}
    expected |= {f"test_{kind}_ndcg_at_10{end}" for kind in ("delta", "vs_chosen") for end in ("", "_low", "_p_holm")}
    expected |= {f"{split}_{name}" for split in ("valid", "test") for name in [*QUALITIES, *filters, "seconds"]}
    assert expected <= set(front) and list(front) == list(baselines)
    without_seen, _ = tables(spec, selected(spec)[0])
    assert not [name for name in without_seen if "filtered_by_seen" in name]


def test_the_tables_hold_what_was_measured(spec: Spec) -> None:
    selection, _, _ = selected(spec)
    front, baselines = tables(spec, selection)
    for row, point in zip(front.to_dict("records"), selection.front, strict=True):
        assert point.test is not None and row["trial_id"] == point.name
        assert row["top_k"] == point.config.top_k and type(row["top_k"]) is type(point.config.top_k)
        assert row["valid_ndcg_at_10"] == point.valid["ndcg_at_10"]
        assert row["test_filter_rate"] == point.test.metrics()["filter_rate"]
        assert row["test_hr_at_10_low"] <= row["test_hr_at_10"] <= row["test_hr_at_10_high"]
    rows = baselines.set_index("trial_id")
    assert rows.test_delta_hr_at_10["all"] == 0 and rows.test_delta_hr_at_10_p["all"] == 1
    assert rows.test_delta_hr_at_10["none"] == pytest.approx(0.9 * (0.2 - 0.5))
    chosen = front.set_index("trial_id").loc[selection.chosen.name]  # type: ignore[union-attr]
    assert chosen.test_vs_chosen_hr_at_10 == 0
    assert rows.test_vs_chosen_hr_at_10["all"] == pytest.approx(0.45 - chosen.test_hr_at_10)


def test_the_front_on_test_is_judged_by_test(spec: Spec) -> None:
    selection, _, _ = selected(spec)
    first, second, *rest = selection.front  # the first filters less
    swapped = [replace(first, test=second.test), replace(second, test=first.test), *rest]
    assert all(tables(spec, selection)[0].on_test_front)
    worse = replace(first, test=Measured("test").measure(Job(replace(first.config, top_k=2, cosine_threshold=0.0), 0)))
    front, _ = tables(spec, replace(selection, front=[worse, *swapped[1:]]))
    assert list(front.on_test_front)[:2] == [False, True]


def test_the_chosen_document_can_be_set_again(spec: Spec, tmp_path: Path) -> None:
    selection, _, _ = selected(spec)
    assert selection.chosen is not None and selection.choice is not None
    document = yaml.safe_load(yaml.safe_dump(chosen_document(spec, selection)))
    assert document["trial_id"] == selection.chosen.name and document["why"] == selection.choice.reason
    assert AdaptConfig(**document["adapt"]) == selection.chosen.config
    assert "0.5% of the best" in document["rule"]
    points = {point.name: point.config for point in selection.baselines}
    assert document["baselines"].keys() == {"none", "all", "random"} == {*get_args(Baseline)}
    for name, fields in document["baselines"].items():
        assert AdaptConfig(**{**document["adapt"], **fields}) == points[name]
    assert document["baselines"]["none"]["target"] == "none" and "target" not in document["baselines"]["all"]
    file = tmp_path / "fixed.yaml"
    file.write_text("space: {learning_rate: {low: 0.001, high: 0.1}}")
    assert load(file, document["set"]).adapt == selection.chosen.config


@pytest.mark.parametrize("value", [None, 1e-05, 0.1 + 0.2, "sgd", True])
def test_every_value_survives_as_a_set_text(spec: Spec, tmp_path: Path, value: object) -> None:
    name = {float: "learning_rate", bool: "new_transitions_only", str: "optimizer"}.get(type(value), "top_k")
    selection, _, _ = selected(spec)
    points = [replace(point, config=replace(point.config, **{name: value})) for point in selection.front]
    searched = replace(spec, space={name: spec.space["entropy_quantile"]})
    texts = chosen_document(searched, replace(selection, front=points))["set"]
    assert len(texts) == 1
    file = tmp_path / "fixed.yaml"
    file.write_text("space: {momentum: {low: 0.001, high: 0.1}}")
    assert getattr(load(file, texts).adapt, name) == value


def test_tables_are_written_with_integers_as_integers(spec: Spec) -> None:
    _, baselines = tables(spec, selected(spec)[0])
    assert isinstance(baselines, pd.DataFrame) and baselines.top_k.isna().any()
    assert "50.0" not in baselines.top_k.to_csv()


@pytest.mark.parametrize("quality", ["hr_at_10", "ndcg_at_10"])
def test_a_baseline_that_is_as_good_as_the_choice_is_told(spec: Spec, quality: str, tmp_path: Path) -> None:
    """Equal is as good. Random skipping is matched in its rate, so only its quality counts."""
    spec, whole = spec_of(tmp_path, search={"objectives": [quality, "filter_rate"]}), selected(spec)[0]
    point, label = whole.baselines[0], {"hr_at_10": "HR@10", "ndcg_at_10": "NDCG@10"}[quality]
    chosen = replace(point, name="trial-0001", valid=point.valid | {quality: 0.5, "filter_rate": 0.4})

    def told(name: str, score: float, rate: float) -> str:
        baseline = replace(point, name=name, valid=point.valid | {quality: score, "filter_rate": rate})
        return documents._beaten_by(spec, replace(whole, baselines=[baseline]), chosen)

    words = {"none": "no adaptation", "all": "adapting on every sample", "random": "random skipping of as many samples"}
    for name, text in words.items():
        said = told(name, 0.5, 0.4)
        assert said.startswith(f" However, {text} (baseline {name})") and said.endswith(
            f" on validation: {label} 0.5000 with 40.0% skipped."
        )
        assert told(name, 0.499, 0.9) == ""
        assert (told(name, 0.6, 0.399) == "") is (name != "random")
    assert told("naive", 0.9, 0.9) == ""


def test_without_a_choice_the_reason_is_told(spec: Spec) -> None:
    assert documents._why_none(select(spec, [], N_ITEMS, Measured("valid"))).startswith("No trial finished")
    trials = finished(spec, Measured("valid"))
    why = documents._why_none(select(spec, trials, N_ITEMS, Measured("valid")))
    assert why.startswith("A fixed configuration (no adaptation, ") and why.endswith("so no trial is recommended.")
