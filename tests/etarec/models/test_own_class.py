"""A model of the user's own: what is asked of its class, and its way through training, checkpoint and adaptation."""

import sys
from pathlib import Path

import pytest
import torch

from etarec import checkpoint, evaluate, train
from etarec.adopt import adopt
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, stream
from etarec.encode import Encoder
from etarec.models import check
from tests.own_package import MODEL

CPU = torch.device("cpu")
OWN = ModelConfig(class_path=MODEL, options={"width": 8})
HEAD = "import torch\nfrom torch import nn\nfrom etarec.models import SequenceModel\n"
SIZED = "    def __init__(self, options, n_items, dropout):\n        super().__init__(options, n_items, dropout)\n"
BROKEN = {
    "class Mine: ...": "which is no torch.nn.Module, expected one",
    "class Mine(nn.Module):\n    causal = True": "has no embed, encode, item_vectors, adaptable, shallow_steps;",
    "class Mine(SequenceModel): ...": "has no encode; expected what etarec.models.base describes",
    "class Mine(SequenceModel):\n    causal = False\n    def encode(self, x, outputs): ...": "has no fill_in",
    "class Mine(SequenceModel):\n    def __init__(self): ...\n    def encode(self, x, outputs): ...": (
        r"cannot be built with model.options \(TypeError: .*expected a constructor \(options, n_items, dropout\)"
    ),
    f"class Mine(SequenceModel):\n{SIZED}        self.items = nn.Embedding(3, 8)\n    def encode(self, x, o): 1": (
        "expected `items`, an nn.Embedding with a row for each of n_items"
    ),
    "class Mine(SequenceModel):\n    def encode(self, x, outputs):\n        return x + x.mean(1, keepdim=True)": (
        "causal, but a state depends on items behind it"
    ),
    "class Mine(SequenceModel):\n    def encode(self, x, outputs):\n        return x": "ignores `outputs.since`",
    "class Mine(SequenceModel):\n    def encode(self, x, outputs):\n        return x[:, outputs.since:]": (
        "ignores `outputs.lengths`"
    ),
    "class Mine(SequenceModel):\n    def encode(self, x, outputs):\n        return x[..., :4]": (
        r"gave \[2, 3, 4\], expected hidden states \[2, 3, 8\]"
    ),
    "class Mine(SequenceModel):\n    def encode(self, x, outputs):\n        return nothing": (
        "a pass over two short sequences raised NameError: name 'nothing' is not defined"
    ),
    "class Mine(SequenceModel):\n    causal = False\n    def encode(self, x, o):\n        return x.mean(1)[:, None]\n"
    "    def fill_in(self, x, masked, lengths):\n        return x": "a state depends on the padding",
}


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "default_device", lambda: CPU)


@pytest.mark.parametrize(("code", "problem"), BROKEN.items())
def test_a_class_that_breaks_a_rule_is_refused_before_training(own_package: Path, code: str, problem: str) -> None:
    (own_package / "broken.py").write_text(f"{HEAD}{code}\n")
    with pytest.raises(UserError, match=f"^model.class: .*{problem}"):
        check(ModelConfig(class_path="mypackage.broken:Mine", options={"width": 8}))


def test_it_trains_and_its_checkpoint_gives_it_back(own_package: Path, log: Interactions, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = TrainConfig(epochs=2, learning_rate=0.03, batch_size=256, dropout=0.0)
    trained = train.train(log, OWN, settings, lambda epoch: losses.append(epoch.loss))
    assert losses[1] < losses[0]
    checkpoint.write(trained, tmp_path / "own.safetensors")
    found = checkpoint.read(tmp_path / "own.safetensors")
    assert found.model == OWN and found.code == trained.code != ""
    measured = evaluate.measure(
        found.restore(CPU), Encoder(log, CPU), stream(log, "valid", "user", 0), AdaptConfig(target="none"), 0
    )
    assert measured.metrics()["hr_at_10"] == trained.valid["hr_at_10"]


@pytest.mark.parametrize("parameters", ["projections", "all"])
def test_its_weights_adapt_by_groups(own_package: Path, log: Interactions, parameters: str) -> None:
    model = train.train(log, OWN, TrainConfig(epochs=1)).restore(CPU)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = AdaptConfig(gate="open", parameters=parameters, batch_size=32, learning_rate=0.01)
    evaluate.measure(model, Encoder(log, CPU), stream(log, "test", "position", 0), config, 0)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    moving = {name for name in before if name.startswith("layers.")}
    assert changed == (moving if parameters == "projections" else {*before})


def test_a_group_without_weights_is_refused(own_package: Path, log: Interactions) -> None:
    path = own_package / "models.py"
    path.write_text(path.read_text().replace('("layers",)', "()"))
    model = adopt(log, OWN, train.build(OWN, log.n_items).state_dict()).restore(CPU)
    config, samples = AdaptConfig(parameters="projections"), stream(log, "test", "position", 0)
    with pytest.raises(UserError, match="given projections, but Conv4Rec has no such weights; expected all"):
        evaluate.measure(model, Encoder(log, CPU), samples, config, 0)


def test_a_model_that_is_not_causal_learns_masked_items(own_package: Path, log: Interactions) -> None:
    (own_package / "wrapped.py").write_text(
        "from etarec.config import ModelConfig\nfrom etarec.models.bert4rec import BERT4Rec\n"
        "class Mine(BERT4Rec):\n    def __init__(self, options, n_items, dropout):\n        sizes = "
        "ModelConfig(name='bert4rec', width=8, heads=2, mlp_width=12, positions=20)\n"
        "        super().__init__(sizes, n_items, dropout)\n"
    )
    own = ModelConfig(class_path="mypackage.wrapped:Mine")
    check(own)
    ours = ModelConfig(name="bert4rec", width=8, heads=2, mlp_width=12, positions=20)
    first, second = (train.train(log, config, TrainConfig(epochs=1)) for config in (own, ours))
    assert all((first.weights[name] == second.weights[name]).all() for name in second.weights)


def test_changed_code_trains_another_checkpoint_and_refuses_the_old_one(
    own_package: Path, log: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, path = train.train(log, OWN, TrainConfig(epochs=1)), train.cache_path(log, OWN, TrainConfig())
    trained.check_against(log.vocabulary, log.sha256, "a file")
    (own_package / "helper.py").write_text("# new\n")
    assert train.cache_path(log, OWN, TrainConfig()) != path
    with pytest.raises(UserError, match=r"^a file: was trained with other code of mypackage.models:Conv4Rec \("):
        trained.check_against(log.vocabulary, log.sha256, "a file")


def test_a_checkpoint_of_a_class_that_is_missing_here_names_it(
    own_package: Path, log: Interactions, tmp_path: Path
) -> None:
    checkpoint.write(train.train(log, OWN, TrainConfig(epochs=1)), tmp_path / "own.safetensors")
    (own_package / "models.py").rename(own_package / "elsewhere.py")
    del sys.modules["mypackage.models"]
    with pytest.raises(UserError, match=r"own.safetensors: model.class: given .*mypackage.models cannot be imported"):
        checkpoint.read(tmp_path / "own.safetensors")
