"""Experiments that name classes of the user's own: what is refused on reading, what is searched, what is recorded."""

from pathlib import Path

import pytest

from etarec.config import AdaptConfig, UserError
from search.baselines import baseline_config
from search.records.provenance import Provenance, settings
from search.spec import canonical, class_paths, first_points, load, neutral_config, own_code, to_yaml, trial_config
from tests.own_package import GATE, MODEL, blocks


@pytest.fixture
def mine(own_package: Path) -> Path:
    """The experiment of the page with the page's model, its gate and an option of it in the space."""
    model, gate = blocks("yaml")
    path = own_package.parent / "mine.yaml"
    rate = "space:\n  learning_rate: {low: 1.0e-4, high: 0.01, log: true}\n"
    margin = "  gate_options.margin: {low: 0.01, high: 10.0, log: true}\n"
    path.write_text(model.partition("space:")[0] + rate + margin + gate.splitlines()[1] + "\n")
    return path


def test_the_resolved_experiment_gives_the_same_again(mine: Path) -> None:
    spec = load(mine)
    assert spec.model.class_path == MODEL and spec.model.options == {"width": 16} and spec.adapt.gate == GATE
    assert class_paths(spec) == (MODEL, GATE)
    (mine.parent / "again.yaml").write_text(to_yaml(spec))
    assert load(mine.parent / "again.yaml", ["name=mine"]) == spec


def test_an_option_is_searched_like_a_field(mine: Path) -> None:
    spec = load(mine)
    config = trial_config(spec, {"learning_rate": 0.002, "gate_options.margin": 2.5})
    assert (config.learning_rate, config.gate_options) == (0.002, {"margin": 2.5})
    assert neutral_config(spec).gate_options["margin"] == pytest.approx(0.1**0.5)
    assert all(point.keys() == spec.space.keys() for point in first_points(spec))
    open_gate = baseline_config("all", config, n_items=10)
    assert canonical(open_gate) == canonical(AdaptConfig(gate="open", learning_rate=0.002))


def test_a_conditional_option_keeps_its_fixed_value_elsewhere(mine: Path) -> None:
    text = mine.read_text().replace(
        "log: true}\nadapt", "log: true, when: {parameters: all}}\n  parameters: {choices: [all, body]}\nadapt"
    )
    mine.write_text(text.replace(f'"{GATE}"', f'"{GATE}", gate_options: {{margin: 3.0}}'))
    spec = load(mine)
    assert spec.space["gate_options.margin"].when == {"parameters": ("all",)} and spec.adapt.gate_options == {
        "margin": 3.0
    }
    (mine.parent / "again.yaml").write_text(to_yaml(spec))
    assert load(mine.parent / "again.yaml", ["name=mine"]) == spec


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.class=mypackage.models:Other",
            "model.class: given .* has no class Other; expected package.module:Class",
        ),
        ("model.class=no class", 'model.class: given "no class", expected text such as package.module:Class or null'),
        ("model.options.widht=3", r"model.options.widht: unknown key; did you mean width\?"),
        ("model.heads=2", "model: heads is not a key of a model of your own; expected it among `options`"),
        ("adapt.gate=nowhere:Gate", "adapt.gate: given nowhere:Gate, but nowhere cannot be imported"),
        (
            "adapt.gate=eta",
            "space.gate_options.margin: the gate has no options; expected adapt.gate: package.module:Class",
        ),
        ("space.gate_options.margni.choices=[1.5]", r"space.gate_options.margni: unknown key; did you mean margin\?"),
        ("space.gate_options.margin.low=wide", 'space.gate_options.margin.low: given "wide", expected a number'),
        ("space.gate_options.margin.choices=[true]", "space.gate_options.margin: with choices it has no low"),
        (
            "space.gate_options.margin={low: 1, high: 3}",
            "space.gate_options.margin: given integers, expected numbers with",
        ),
    ],
)
def test_mistakes_are_named_by_their_keys(mine: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"mine.yaml: {message}".replace("with choices it", ".*with choices it")):
        load(mine, [override])


def test_options_need_a_class(mine: Path) -> None:
    mine.write_text(
        "model: {options: {width: 3}}\nadapt: {gate_options: {margin: 1.0}}\nspace: {top_k: {low: 2, high: 4}}\n"
    )
    with pytest.raises(UserError, match="model: options belong to a model of your own"):
        load(mine)
    with pytest.raises(UserError, match=r"adapt.gate_options: the gate eta has no options; expected adapt.gate"):
        load(mine, ["model={}"])


def test_a_field_of_the_gate_that_is_replaced_cannot_be_searched(mine: Path) -> None:
    searched = "space.top_k={low: 2, high: 9}"
    with pytest.raises(
        UserError, match=r"space.top_k: it has no effect: the gate .*Margin decides alone; .* gate_opti"
    ):
        load(mine, [searched])
    assert "top_k" in load(mine, [searched, "adapt.objective=entropy"]).space
    mine.write_text(mine.read_text().partition("adapt:")[0])
    assert "top_k" in load(mine, [searched, f"space.gate={{choices: [eta, '{GATE}']}}"]).space


def test_overrides_change_and_fix_options(mine: Path) -> None:
    assert load(mine, ["space.gate_options.margin.low=0.5"]).space["gate_options.margin"].low == 0.5
    fixed = load(mine, ["adapt.gate_options.margin=2.5"])
    assert fixed.adapt.gate_options == {"margin": 2.5} and "gate_options.margin" not in fixed.space
    assert "gate_options.margin" not in load(mine, ["space.gate_options.margin=null"]).space
    every = [f"adapt.{key}" for key in ("learning_rate=0.002", "gate_options.margin=2.5")]
    assert load(mine, every).space["gate_options.margin"].choices == (2.5,)


def test_the_code_is_a_setting_that_a_resumed_search_shares(mine: Path, own_package: Path) -> None:
    spec, before = load(mine), settings(load(mine), Provenance())
    assert before["code"]["mypackage/models.py"] == own_code.sources(spec)["mypackage/models.py"]
    (own_package / "helper.py").write_text("")
    assert settings(spec, Provenance()) != before


def test_a_table_s_rows_are_read_too(mine: Path) -> None:
    mine.write_text(
        mine.read_text()
        + "table:\n  rows:\n  - {name: own, adapt: {gate: open}}\n"
        + f"  - {{name: other, model: {{class: {MODEL}s}}}}\n"
    )
    with pytest.raises(UserError, match=r"table.rows\[1\].model.class: .* has no class Conv4Recs"):
        load(mine)
