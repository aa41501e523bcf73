"""Baselines, data set and metrics of a search in a real store: all there once, and nothing idle."""

import json
from pathlib import Path

import pytest
from made_up_store import CURVE, RESULT, Store, close, tracker

from search.records.records import Records

USED = RESULT | {"filtered_by_loss": 0.0, "shallow_rate": 0.0}
ROWS = """trial_id,top_k,valid_hr_at_10,valid_shallow_rate,test_hr_at_10,test_filter_rate
none,,0.25,0,0.2,1.0
random{rate},50,0.3,0,0.25,0.5
"""
DATA = {"source": "/logs/clicks.csv", "sha256": "ab" * 32, "users": 7, "items": 9, "interactions": 63, "samples": {}}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir(exist_ok=True)
    (folder / "baselines.csv").write_text(ROWS.format(rate=""))
    (folder / "provenance.json").write_text(json.dumps({"data": DATA}))
    return folder


def test_baselines_and_data_are_in_the_store_once_whatever_is_repeated(
    records: Records, store: Store, out: Path
) -> None:
    records.started(0, {"top_k": 50})
    records.finished(0, USED, CURVE)
    for _ in range(2):
        assert close(tracker(records), front=("trial-0000",), artifacts=out)
    children = store.children()
    assert set(children) == {"trial-0000", "none", "random"}
    none = children["none"]
    assert none.data.metrics == {"hr_at_10": 0.25, "test_hr_at_10": 0.2, "test_filter_rate": 1.0}
    assert none.info.status == "FINISHED" and none.info.run_name == "none"
    assert none.data.tags["baseline"] == "none" and none.data.params == {"top_k": "null"}
    (given,) = store.client.get_run(store.parent().info.run_id).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest) == ("clicks.csv", "ab" * 18)
    assert json.loads(given.dataset.profile)["interactions"] == 63
    (out / "baselines.csv").write_text(ROWS.format(rate=" 36%"))
    assert close(tracker(records), front=("trial-0000",), artifacts=out)
    assert set(store.children()) == {"trial-0000", "none", "random 36%"}


def test_a_metric_that_is_0_in_every_trial_is_not_there_and_one_that_is_used_is(records: Records, store: Store) -> None:
    for number, rate in enumerate((0.0, 0.5)):
        records.started(number, {"top_k": 50})
        records.finished(number, USED | {"filtered_by_redundancy": rate}, CURVE)
    assert close(tracker(records), front=("trial-0000",))
    run = store.children()["trial-0000"]
    assert not {"filtered_by_loss", "shallow_rate"} & run.data.metrics.keys()
    assert run.data.metrics["filtered_by_redundancy"] == 0.0
