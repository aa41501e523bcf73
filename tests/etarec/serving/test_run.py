"""The folder of a search becomes a recommender, and a damaged one a message."""

import dataclasses
from pathlib import Path
from typing import get_args

import pytest
import yaml

from etarec.config import AdaptConfig, UserError
from etarec.serving import Baseline, load, read

from .made_up_run import CONFIG, made_up_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made_up_run(tmp_path)


def rewrite(file: Path, **changes: object) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))


def test_a_run_is_read_with_its_verdict(run):
    found = read(run)
    assert (found.verdict, found.advice, found.seed) == ("use_chosen", "Use trial-0002.", 4)
    assert found.config == CONFIG and found.data.max_length == 9 and found.checkpoint_file.parent == run


def test_it_begins_with_the_histories_of_the_log(run):
    recommender = load(run)
    log = (run.parent / "clicks.csv").read_text().splitlines()[1:]
    user = log[0].split(",")[0]
    own = [line.split(",")[1] for line in log if line.startswith(f"{user},")]
    kept = [recommender.catalogue.tokens[code - 1] for code in recommender.users.by_token[user].items]
    assert kept == [item for item in own if item in recommender.catalogue.codes][-9:]
    assert recommender.catalogue.counts.sum() > 0 and recommender.guard and recommender.seed == 4


def test_without_its_log_it_knows_items_but_no_users(run):
    (run.parent / "clicks.csv").unlink()
    recommender = load(run, log=False, guard=None)
    assert not recommender.users.by_token and recommender.guard is None
    assert recommender.recommend(["anybody"])[0].items == ()
    assert len(recommender.recommend([recommender.catalogue.tokens[:2]], k=3)[0].items) == 3
    with pytest.raises(UserError, match=r"clicks\.csv"):
        load(run)


def test_another_configuration_can_be_served(run):
    assert load(run, adapt=AdaptConfig(target="none")).config.target == "none"
    rewrite(run / "chosen.yaml", adapt={**dataclasses.asdict(CONFIG), "fisher_alpha": 1.0, "fisher_samples": 4})
    assert not load(run, log=False).users.by_token  # the log is read for the penalty alone


BASELINES = {"none": {"target": "none"}, "all": {"gate": "open"}, "random": {"gate": "random", "random_rate": 0.25}}


@pytest.mark.parametrize("baseline", get_args(Baseline))
def test_a_baseline_is_served_with_the_chosen_trial_s_other_fields(run, baseline):
    rewrite(run / "chosen.yaml", baselines=BASELINES)
    expected = dataclasses.replace(CONFIG, **BASELINES[baseline])
    assert load(run, baseline=baseline, log=False).config == expected
    assert read(run, baseline=baseline).name == f"baseline {baseline}" and read(run).name == "trial-0002"


def test_where_no_trial_is_recommended_a_baseline_or_ones_own_configuration_is_served(run):
    rewrite(run / "chosen.yaml", adapt=None, trial_id=None, why="None won.", verdict="not_settled", baselines=BASELINES)
    rewrite(run / "spec.yaml", adapt=dataclasses.asdict(CONFIG))
    with pytest.raises(UserError, match=r"no trial to serve \(None won.\); expected --baseline none or all or random$"):
        load(run)
    assert load(run, baseline="all", log=False).config == dataclasses.replace(CONFIG, gate="open")
    assert load(run, adapt=AdaptConfig(top_k=3), log=False).config.top_k == 3


@pytest.mark.parametrize(("verdict", "baseline"), [("do_not_adapt", "none"), ("adapt_on_all", "all")])
def test_the_message_names_the_baseline_that_the_verdict_advises(run, verdict, baseline):
    rewrite(run / "chosen.yaml", adapt=None, verdict=verdict, baselines=BASELINES)
    with pytest.raises(UserError, match=f"; expected --baseline {baseline}, as its verdict advises$"):
        load(run)


def test_without_recorded_baselines_the_checkpoint_alone_can_be_served(run):
    assert load(run, baseline="none", log=False).config == dataclasses.replace(CONFIG, target="none")
    with pytest.raises(UserError, match=r"chosen\.yaml: has no baseline all, expected none$"):
        load(run, baseline="all")


def test_a_checkpoint_elsewhere_is_found_by_provenance_or_by_name(run, tmp_path):
    moved = (run / "checkpoint.safetensors").rename(tmp_path / "moved.safetensors")
    sha256 = read(run, moved).checkpoint.sha256
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: no such file"):
        read(run)
    (run / "provenance.json").write_text(f'{{"checkpoint": {{"path": "{moved}", "sha256": "{sha256}"}}}}')
    assert read(run).checkpoint_file == moved
    (run / "provenance.json").write_text(f'{{"checkpoint": {{"path": "{moved}", "sha256": "abc"}}}}')
    with pytest.raises(UserError, match="is another checkpoint than the search's"):
        read(run)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            "chosen.yaml",
            {"adapt": None, "why": "nothing won"},
            "no trial to serve .nothing won.; expected --baseline none",
        ),
        ("chosen.yaml", {"adapt": {"top_k": 0}}, "adapt.top_k"),
        ("chosen.yaml", {"adapt": {"no_such_key": 0}}, "adapt.no_such_key"),
        ("spec.yaml", {"data": {"path": 3}}, "data.path"),
    ],
)
def test_a_damaged_file_is_named(run, file, changes, message):
    rewrite(run / file, **changes)
    with pytest.raises(UserError, match=message):
        read(run)


def test_a_missing_or_broken_file_is_named(run, tmp_path):
    with pytest.raises(UserError, match=r"chosen\.yaml: cannot be read"):
        read(tmp_path / "nowhere")
    (run / "provenance.json").write_text("no JSON")
    with pytest.raises(UserError, match=r"provenance\.json: cannot be read"):
        read(run)
