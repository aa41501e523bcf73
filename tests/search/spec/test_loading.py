from pathlib import Path

import pytest
from spaces import floats, integers

from etarec.config import DataConfig, TrainConfig, UserError
from search.spec import Spec, load, to_yaml

SPACE = "space: {top_k: {low: 2, high: 500, log: true}, cosine_threshold: {low: 0.02, high: 1, log: true}}\n"


@pytest.fixture
def write(tmp_path: Path):
    def _write(text: str, name: str = "demo.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return _write


def failure(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(path, overrides)
    return str(caught.value)


def test_everything_but_space_has_a_default(write):
    spec = load(write(SPACE))
    assert spec == Spec(
        name="demo",
        data=DataConfig(dataset="simulated"),
        space={"top_k": integers(2, 500, log=True), "cosine_threshold": floats(0.02, 1.0, log=True)},
    )
    assert isinstance(spec.space["cosine_threshold"].high, float)
    assert spec.search.quality == "hr_at_10"
    assert spec.baselines == ("none", "all", "random", "naive", "published")


def test_a_section_without_keys_means_its_defaults(write):
    assert load(write(SPACE + "train:\n  # epochs: 3\ndata:\nsearch:\n")) == load(write(SPACE))


def test_source_of_data_is_simulated_when_only_other_keys_are_given(write):
    assert load(write(SPACE + "data: {max_length: 20}")).data == DataConfig(dataset="simulated", max_length=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("spce: {}", "spce: unknown key; did you mean space?"),
        ("name: x", "space: missing or empty"),
        ("space: {}", "space: missing or empty"),
        ("space:", "space: missing or empty"),
        ("space: 5", "space: given 5, expected a mapping"),
        ("space: {topk: {low: 1, high: 2}}", "space.topk: unknown key; did you mean top_k?"),
        (
            "space: {top_k: 5}",
            "space.top_k: given 5, expected a mapping with keys of: low, high, log, step, choices, when",
        ),
        ("space: {top_k: {}}", "space.top_k: expected {low: ..., high: ...} or {choices: [...]}"),
        ("space: {top_k: {low: 3}}", "space.top_k: expected {low: ..., high: ...}"),
        ("space: {top_k: {low: 3, high: null}}", "space.top_k: expected {low: ..., high: ...}"),
        ("space: {top_k: {low: 9, high: 3}}", "space.top_k: low (9) must be below high (3)"),
        ("space: {top_k: {low: 3, high: 3}}", "space.top_k: low (3) must be below high (3)"),
        ("space: {top_k: {low: 0, high: 3}}", "space.top_k.low: given 0, expected an integer at least 1"),
        ("space: {top_k: {low: 1.5, high: 3}}", "space.top_k.low: given 1.5, expected an integer"),
        ("space: {top_k: {low: 1, high: 9, step: 0.5}}", "space.top_k: low, high and step must be integers"),
        ("space: {top_k: {low: 1, high: 9, step: 0}}", "space.top_k: given step 0, expected a step above 0"),
        ("space: {top_k: {low: 1, high: 9, step: 10}}", "space.top_k: given step 10, expected a step above 0 and at m"),
        (
            "space: {top_k: {low: 1, high: 9, step: 10, log: true}}",
            "space.top_k: given step 10, expected a ratio above 1",
        ),
        (
            "space: {top_k: {low: 1, high: 9, scale: log}}",
            "space.top_k.scale: unknown key (known here: low, high, log, step, choices, when)",
        ),
        ("space: {top_k: {low: 1, high: 9, kind: int}}", "space.top_k.kind: unknown key"),
        ("space: {top_k: {low: 1, high: 9, log: yes}}", 'space.top_k.log: given "yes", expected true or false'),
        ("space: {top_k: {low: true, high: 9}}", "space.top_k.low: given true, expected an integer"),
        ("space: {top_k: {choices: 5}}", "space.top_k.choices: given 5, expected a list"),
        ("space: {top_k: {choices: []}}", "space.top_k: expected {choices: [...]} with at least one value"),
        ("space: {top_k: {choices: [1, 2, 1]}}", "space.top_k: choices names 1 more than once"),
        (
            "space: {top_k: {choices: [1, 0]}}",
            "space.top_k.choices[1]: given 0, expected an integer at least 1 or null",
        ),
        ("space: {top_k: {choices: [{a: 1}]}}", "space.top_k.choices[0]: given a mapping, expected an integer"),
        ("space: {top_k: {choices: [1], low: 1}}", "with choices it has no low, high, log or step"),
        ("space: {cosine_threshold: {choices: [1, 1.0]}}", "space.cosine_threshold: choices names 1.0 more than once"),
        (
            "space: {cosine_threshold: {low: 0, high: 1, log: true}}",
            "space.cosine_threshold: a log scale needs low abo",
        ),
        (
            "space: {entropy_quantile: {low: 0, high: 1.1}}",
            "space.entropy_quantile.high: given 1.1, expected a number fr",
        ),
        (
            "space: {learning_rate: {low: .nan, high: 1}}",
            "space.learning_rate.low: given NaN, expected a number above 0",
        ),
        ("space: {learning_rate: {low: 1, high: .inf}}", "space.learning_rate.high: given Infinity, expected a number"),
        ("space: {gate: {low: 1, high: 2}}", "space.gate: expected {choices: [...]}: this key has no numeric range"),
        (
            "space: {gate: {choices: [eta, opne]}}",
            'space.gate.choices[1]: given "opne", expected one of eta, open, ran',
        ),
        ("space: {gate: {choices: [null]}}", "space.gate.choices[0]: given null, expected one of"),
        (
            "space: {new_transitions_only: {choices: [1]}}",
            "space.new_transitions_only.choices[0]: given 1, expected true",
        ),
        (SPACE + "adapt: {top_k: 50}", "space.top_k: it is also fixed as adapt.top_k"),
        (SPACE + "adapt: {top_k: all}", 'adapt.top_k: given "all", expected an integer at least 1 or null'),
        (SPACE + "adapt: {cosine: 1}", "adapt.cosine: unknown key; did you mean cosine_threshold?"),
        (
            "space: {entropy_quantile: {low: 0, high: 1}}\nadapt: {entropy_threshold: 3}",
            "it has no effect: adapt.entro",
        ),
        (SPACE + "adapt: 5", "adapt: given 5, expected a mapping with keys of: target, objective"),
        (SPACE + "search: {trials: 0}", "search.trials: given 0, expected an integer at least 1 or auto"),
        (SPACE + "search: {trials: many}", 'search.trials: given "many", expected an integer at least 1'),
        (SPACE + "search: {trials: 1e3}", "search.trials: given 1000.0, expected an integer"),
        (SPACE + "search: {trials: 1e999}", "search.trials: given Infinity, expected an integer"),
        (SPACE + "search: {trials: null}", "search.trials: given null, expected an integer"),
        (SPACE + "search: {seed: -1}", "search.seed: given -1, expected an integer from 0 to below 2147483648"),
        (SPACE + "search: {cpus_per_trial: .nan}", "search.cpus_per_trial: given NaN, expected a number above 0"),
        (SPACE + "search: {gpus_per_trial: -1}", "search.gpus_per_trial: given -1, expected a number at least 0"),
        (
            SPACE + "search: {concurrency: none}",
            'search.concurrency: given "none", expected an integer at least 1 or au',
        ),
        (
            SPACE + "search: {sampler: tree}",
            'search.sampler: given "tree", expected one of auto, tpe, gp, nsga2, sobol',
        ),
        (
            SPACE + "search: {sampler: grid}",
            "space.cosine_threshold: search.sampler: grid needs `step` or `choices` in every dimension",
        ),
        (
            SPACE + "search: {objectives: [hr_at_10]}",
            'search.objectives: given ["hr_at_10"], expected two or three: at least one of',
        ),
        (SPACE + "search: {objectives: [hr_at_10, ndcg_at_10]}", "search.objectives: given"),
        (SPACE + "search: {objectives: [filter_rate, filter_rate]}", "search.objectives: given"),
        (SPACE + "search: {objectives: [hr@10, filter_rate]}", 'search.objectives[0]: given "hr@10", expected one of'),
        (SPACE + "search: {choose: {tolerence: 0}}", "search.choose.tolerence: unknown key; did you mean tolerance?"),
        (SPACE + "search: {choose: {tolerance: -0.1}}", "search.choose.tolerance: given -0.1, expected a number"),
        (SPACE + "search: {constraints: {hr_at_10: 0.5}}", "search.constraints.hr_at_10: given 0.5, expected text"),
        (
            SPACE + "search: {constraints: {hr_at_10: '> 0'}}",
            'search.constraints: hr_at_10: given "> 0", expected a bo',
        ),
        (SPACE + "search: {constraints: {hr: '>= 1'}}", 'search.constraints: given the metric "hr", expected one of'),
        (SPACE + "search: {choose: {rule: best}}", 'search.choose.rule: given "best", expected one of tolerance, cons'),
        (
            SPACE + "search: {choose: {rule: constraint}}",
            "search.choose.rule: given constraint, expected search.constr",
        ),
        (SPACE + "search: {choose: {weights: [0, 0]}}", "search.choose.weights: given only zeros, expected a weight"),
        (
            SPACE + "search: {until: converged, sampler: tpe}",
            "search.until: given converged, expected search.sampler: a",
        ),
        (SPACE + "search: {converged_below: 0}", "search.converged_below: given 0, expected a number"),
        (SPACE + "search: {max_minutes: 0}", "search.max_minutes: given 0, expected a number above 0"),
        (SPACE + "search: {prune: {z: -1}}", "search.prune.z: given -1, expected a number above 0"),
        (SPACE + "search: {retest: some}", 'search.retest: given "some", expected one of front, all'),
        (SPACE + "trials: 5", "trials: unknown key; did you mean search.trials?"),
        (SPACE + "baselines: all", 'baselines: given "all", expected a list, each one of none, all'),
        (SPACE + "baselines: [all, al]", 'baselines[1]: given "al", expected one of none, all'),
        (SPACE + "baselines: [all, all]", "baselines: given"),
        (SPACE + "name: 2024", "name: given 2024, expected text"),
        (SPACE + "name: a/b", 'name: given "a/b", expected the name of a folder'),
        (SPACE + "name: ..", 'name: given "..", expected the name of a folder'),
        (SPACE + "data: {path: a.csv, dataset: simulated}", "data: give exactly one of"),
        (SPACE + "data: {path: null}", "data: give exactly one of"),
        (SPACE + "data: {path: ''}", 'data.path: given "", expected a file'),
        (SPACE + "data: {dataset: simulate}", 'data.dataset: given "simulate", expected simulated or null'),
        (SPACE + "data: {columns: {user: 1.5}}", "data.columns.user: given 1.5, expected text or an integer"),
        (SPACE + "data: {valid_share: .nan}", "data.valid_share: given NaN, expected a number from 0 to 1"),
        (SPACE + "model: {width: 30}", "model: width: given 30, expected a multiple of 2 x heads, which is 8"),
        (SPACE + "checkpoint: a\ntrain: {epochs: 3}", "checkpoint: it replaces `model` and `train`"),
        (SPACE + "checkpoint: a\nmodel: {}", "checkpoint: it replaces `model` and `train`"),
        (SPACE + "1: 2", "1: unknown key"),
    ],
)
def test_a_bad_file_is_one_message_with_the_key_and_what_was_expected(write, text, expected):
    path = write(text)
    lines = failure(path).splitlines()
    assert any(f"{path}: " in line and expected in line for line in lines), lines
    assert all(line.startswith(f"{path}: ") for line in lines)


def test_every_problem_is_listed_once_in_the_order_of_sections(write):
    message = failure(write("search: {trials: 0, seed: x}\nspace: {top_k: {low: 0, high: abc}}\ntrain: {lr: 1}\n"))
    places = [line.split(": ")[1] for line in message.splitlines()]
    assert places == ["train.lr", "space.top_k.low", "space.top_k.high", "search.trials", "search.seed"]


def test_huge_numbers_are_a_message(write):
    huge = "1" + "0" * 400
    text = f"space: {{learning_rate: {{low: {huge}, high: 2}}}}\nsearch: {{trial_timeout: {huge}}}"
    message = failure(write(text))
    assert "space.learning_rate.low: given 1000" in message
    assert "search.trial_timeout: given 1000" in message
    assert max(map(len, message.splitlines())) < 300


def test_paths_start_at_the_file_and_in_overrides_at_the_current_folder(write, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = write(SPACE + "data: {path: ../logs/a.csv}\ncheckpoint: b.safetensors")
    assert load(path).data.path == str(tmp_path.parent / "logs" / "a.csv")
    assert load(path).checkpoint == str(tmp_path / "b.safetensors")
    assert load(path, ["data.path=c.csv"]).data.path == str(tmp_path / "elsewhere" / "c.csv")
    assert load(path, ["data={path: c.csv}"]).data.path == str(tmp_path / "elsewhere" / "c.csv")
    assert load(path, ["checkpoint=~/c"]).checkpoint == str(tmp_path / "home" / "c")


def test_later_source_replaces_the_earlier_one(write):
    simulated, logged = (
        write(SPACE + "data: {dataset: simulated, k_core: 3}"),
        write(SPACE + "data: {path: a}", "b.yaml"),
    )
    data = load(simulated, ["data.path=/x.csv"]).data
    assert (data.dataset, data.path, data.k_core) == (None, "/x.csv", 3)
    assert load(logged, ["data.dataset=simulated"]).data == DataConfig(dataset="simulated")
    both = ["data.dataset=simulated", "data.path=/x.csv"]
    assert load(logged, both).data.path == "/x.csv"
    assert load(logged, both[::-1]).data.path is None


def test_a_checkpoint_override_stands_for_the_training_of_the_file(write):
    path = write(SPACE + "train: {epochs: 3}\nmodel: {width: 32}")
    spec = load(path, ["checkpoint=/c"])
    assert (spec.checkpoint, spec.train) == ("/c", TrainConfig())
    assert "checkpoint: it replaces" in failure(path, "checkpoint=/c", "train.epochs=4")


def test_overrides_create_valid_keys_and_the_last_one_wins(write):
    overrides = ["search.trials=9", "search.trials=7", "space.momentum.low=0", "space.momentum.high=5e-1"]
    spec = load(
        write(SPACE), [*overrides, "search.objectives=[filter_rate, ndcg_at_50]", "name=other", "adapt.gate=eta"]
    )
    assert spec.search.trials == 7
    assert spec.space["momentum"] == floats(0.0, 0.5)
    assert spec.search.quality == "ndcg_at_50"
    assert spec.name == "other"


def test_null_takes_a_field_out_of_the_search(write):
    spec = load(write(SPACE), ["space.top_k=null", "adapt.top_k=20"])
    assert (spec.space.keys(), spec.adapt.top_k) == ({"cosine_threshold"}, 20)
    assert "space is 5, not a mapping" in failure(write("space: 5"), "space.top_k=null")
    assert "space.top_k: given null" in failure(write("space: {top_k: }"), "search.trials=3")


def test_fields_that_are_all_fixed_are_searched_with_one_choice_each(write):
    """The settings of chosen.yaml, in the search's own spec."""
    spec = load(write(SPACE), ["adapt.top_k=null", "adapt.cosine_threshold=0.3", "adapt.learning_rate=0.01"])
    assert {name: dimension.choices for name, dimension in spec.space.items()} == {
        "top_k": (None,),
        "cosine_threshold": (0.3,),
    }
    assert spec.adapt.learning_rate == 0.01
    assert load(write(to_yaml(spec), "again.yaml")) == spec
    part = load(write(SPACE), ["adapt.top_k=7"])
    assert [*part.space] == ["cosine_threshold"] and part.adapt.top_k == 7
    nothing = ["space.top_k=null", "space.cosine_threshold=null"]
    assert "space: missing or empty" in failure(write(SPACE), *nothing)
    assert "space: missing or empty" in failure(write("space: {}"), "adapt.top_k=7")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("search.trials", "expected key.path=value"),
        ("search.trials=", "expected key.path=value (null for no value)"),
        ("=3", "empty key"),
        ("search..trials=3", "empty key"),
        ("serch.trials=3", "serch: unknown key; did you mean search? (known here: name, data, checkpoint"),
        ("search.trails=3", "search.trails: unknown key; did you mean trials? (known here: trials, seed"),
        ("space.topk.low=3", "space.topk: unknown key; did you mean top_k?"),
        ("space.top_k.kind=int", "space.top_k.kind: unknown key"),
        (
            "search.trials.x=3",
            "search.trials has no keys, expected search.trials=VALUE with an integer at least 1 or auto",
        ),
        ("search.objectives.0=hr_at_10", "search.objectives has no keys, expected search.objectives=VALUE with a list"),
        ("search.trials=[", "not valid YAML"),
        (
            "search.trials=0",
            "search.trials: given 0, expected an integer at least 1 or auto (from --set search.trials=0)",
        ),
        ("space.top_k.low=600", "space.top_k: low (600) must be below high (500) (from --set space.top_k.low=600)"),
        ("search={trial: 5}", "search.trial: unknown key; did you mean trials?"),
        ("data.path=5", "data.path: given 5, expected text or null (from --set data.path=5)"),
    ],
)
def test_a_bad_override_is_a_message_with_its_text(write, override, expected):
    message = failure(write(SPACE), override)
    assert f"--set {override}" in message
    assert expected in message


def test_the_override_that_counted_is_named(write):
    message = failure(write(SPACE), "search.trials=-1", "search={trials: 0}")
    assert message.endswith(
        "search.trials: given 0, expected an integer at least 1 or auto (from --set search={trials: 0})"
    )


def test_an_override_into_a_section_that_is_a_value(write):
    message = failure(write(SPACE + "train: 5"), "train.epochs=3")
    assert message == "--set train.epochs=3: train is 5, not a mapping"


@pytest.mark.parametrize("stem", ["demo", "my space (1)", "...", "ünï", "x" * 120])
def test_default_name_is_a_usable_form_of_the_files_stem(write, stem):
    name = load(write(SPACE, f"{stem}.yaml")).name
    assert name == {"my space (1)": "my-space-1", "...": "search", "x" * 120: "x" * 100}.get(stem, stem)


def test_the_keys_of_a_log_load_and_are_written_again(write, tmp_path: Path) -> None:
    log = (
        "data: {path: u.data, columns: {user: 1, item: 2-, timestamp: null}, separator: '::', header: true, encoding: "
        "latin-1, time_format: '%d.%m.%Y', list_separator: ' ', where: {event: [buy, 5, true]}, at_least: {3: 4}, "
        "drop: [missing_time, duplicates]}\n"
    )
    data = load(write(SPACE + log)).data
    assert (data.columns.user, data.columns.item, data.separator, data.header) == (1, "2-", "::", True)
    assert data.where == {"event": ("buy", 5, True)} and data.at_least == {"3": 4.0}
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(load(write(SPACE + log))), encoding="utf-8")
    assert load(again).data == data


def test_filters_of_a_log_can_be_overridden(write) -> None:
    path = write(SPACE + "data: {path: log.csv}\n")
    data = load(path, ["data.where.event=[buy]", "data.at_least.rating=4", "data.columns.user=3"]).data
    assert (data.where, data.at_least, data.columns.user) == ({"event": ("buy",)}, {"rating": 4.0}, 3)
    assert 'data.where.event: given "buy", expected a list' in failure(path, "data.where.event=buy")
    assert "data.where: given 5, expected a mapping of names to values" in failure(path, "data.where=5")
    assert "data.columns.user: given 0, expected text or an integer at least 1" in failure(path, "data.columns.user=0")


def test_an_address_is_no_path_of_this_machine(write) -> None:
    path = write(SPACE + "data: {path: 's3://logs/log.csv'}\n")
    assert load(path).data.path == "s3://logs/log.csv"
    assert load(path, ["data.path=https://host/log.csv?a=b"]).data.path == "https://host/log.csv?a=b"
