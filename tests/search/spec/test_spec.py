"""A spec as text: what is written loads as the same spec."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from spaces import integers, make

from etarec.config import DataConfig, TrainConfig
from search.spec import SearchConfig, Spec, as_dict, load, to_yaml
from search.spec.dimension import Dimension

plain_floats = st.floats(1e-12, 1e12).filter(lambda x: x == x)


@st.composite
def dimensions(draw: st.DrawFn) -> tuple[str, Dimension]:
    kind = draw(st.sampled_from(["int", "float", "choices"]))
    if kind == "choices":
        return "gate", Dimension(kind="choices", choices=tuple(draw(st.permutations(["eta", "open", "random"]))))
    numbers = st.integers(1, 10**6) if kind == "int" else plain_floats
    low, high = sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True)))
    scale = draw(st.sampled_from(["linear", "log", "step"]))
    steps = st.integers(1, high - low) if kind == "int" else st.floats((high - low) / 1e5, high - low)
    step = draw(steps) if scale == "step" and high - low >= 1 else None
    return {"int": "top_k", "float": "learning_rate"}[kind], Dimension(
        kind=kind, low=low, high=high, log=scale == "log", step=step
    )


names = st.from_regex(r"[\w]([\w. -]{0,20}[\w-])?", fullmatch=True)


@given(names, dimensions(), st.sampled_from([None, "/a/1e3", "/b: c", "/~"]), st.integers(1, 10**6), plain_floats)
def test_written_spec_loads_as_the_same_spec(tmp_path_factory, name, dimension, checkpoint, trials, tolerance):
    spec = Spec(
        name=name,
        data=DataConfig(path="/logs/on: off #1.csv"),
        checkpoint=checkpoint,
        train=TrainConfig() if checkpoint else TrainConfig(learning_rate=tolerance),
        space=dict([dimension]),
        search=SearchConfig(trials=trials, trial_timeout=tolerance),
        baselines=("naive",),
    )
    path = tmp_path_factory.getbasetemp() / "round-trip.yaml"
    path.write_text(to_yaml(spec), encoding="utf-8")
    assert load(path) == spec


def test_written_form_is_plain_and_leaves_searched_fields_out_of_adapt():
    document = as_dict(make(top_k=integers(2, 9)))
    assert document["space"] == {"top_k": {"low": 2, "high": 9, "log": False, "step": None}}
    assert "top_k" not in document["adapt"]
    assert document["data"]["dataset"] == "simulated"
    assert not {"checkpoint", "kind"} & document.keys()


def test_loading_does_not_need_the_harness():
    code = "import sys, search.spec; print(*sorted({'ray', 'optuna', 'mlflow', 'torch'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
