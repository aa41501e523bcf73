"""A gate of the user's own: what it sees, what counts, and the classes that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from etarec import evaluate, own_gate
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, Reason, UserError
from etarec.data import Interactions, stream
from etarec.encode import Encoder
from tests.own_package import GATE

CPU = torch.device("cpu")
HEAD = (
    "import dataclasses, torch\nfrom etarec.config import Reason\nfrom etarec.gate import Decision, decide\nseen = []\n"
    "class Mine:\n    def __init__(self, options, seed):\n        self.options, self.seed = options, seed\n"
)
JUDGE = (
    "    def judge(self, batch):\n"
    "        seen.append(dataclasses.replace(batch, item_vectors=batch.item_vectors.clone()))\n        "
)
EVERY = f"{JUDGE}return Decision(torch.zeros(len(batch.hidden), dtype=torch.int8))\n"


def measured(frozen: Checkpoint, log: Interactions, config: AdaptConfig) -> evaluate.Measurement:
    samples = stream(log, "valid", "position", 0)
    return evaluate.measure(frozen.restore(CPU), Encoder(log, CPU), samples, config, 0)


@pytest.mark.parametrize("target", ["weights", "state"])
def test_it_decides_whom_the_model_learns_from(own_package: Path, frozen, log, target: str) -> None:
    shares = []
    for margin in (0.0, 0.05, 0.3, 100.0):
        config = AdaptConfig(target=target, gate=GATE, gate_options={"margin": margin}, batch_size=32)
        found = measured(frozen, log, config)
        shares.append(found.metrics()["filtered_by_own"])
        assert set(np.unique(found.reasons)) <= {Reason.ADMITTED, Reason.NOTHING_TO_LEARN, Reason.OWN}
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.9 > shares[2] > shares[3] == 0


@pytest.mark.parametrize("target", ["weights", "state"])
def test_one_that_admits_everything_equals_the_open_gate(own_package: Path, frozen, log, target: str) -> None:
    (own_package / "every.py").write_text(HEAD + EVERY)
    own, opened = (
        measured(frozen, log, AdaptConfig(target=target, gate=gate, batch_size=32))
        for gate in ("mypackage.every:Mine", "open")
    )
    assert (own.ranks == opened.ranks).all() and (own.reasons == opened.reasons).all()


def test_it_sees_scores_losses_and_what_was_seen_in_training(own_package: Path, frozen, log) -> None:
    (own_package / "every.py").write_text(HEAD + "    top_k = 3\n    needs_losses = True\n" + EVERY)
    config = AdaptConfig(gate="mypackage.every:Mine", batch_size=32, feedback="next_request")
    found = measured(frozen, log, config)
    from mypackage.every import seen  # written above

    tried, *batches = seen
    assert len(tried.hidden) == own_gate.TRIED[0] and sum(len(batch.hidden) for batch in batches) == len(found.ranks)
    for batch in batches:
        scores = batch.hidden @ batch.item_vectors.T
        torch.testing.assert_close(batch.top_scores, scores.topk(3).values)
        torch.testing.assert_close(scores.gather(1, batch.top_items), batch.top_scores)
        assert (batch.losses.isnan() == batch.nothing_to_learn).all()
    nothing = torch.cat([batch.nothing_to_learn for batch in batches]).numpy()
    assert nothing.any() and ((found.reasons == Reason.NOTHING_TO_LEARN) == nothing).all()


def test_its_weights_weigh_the_losses(own_package: Path, frozen, log) -> None:
    for name, weight in (("none", 0), ("half", 0.5), ("one", 1)):
        decision = (
            f"Decision(torch.zeros(len(batch.hidden), dtype=torch.int8), torch.full_like(batch.hidden[:, 0], {weight}))"
        )
        (own_package / f"{name}.py").write_text(f"{HEAD}{JUDGE}return {decision}\n")
    ranks = {}
    for name in ("none", "half", "one"):
        sgd = {"optimizer": "sgd", "learning_rate": 0.5, "batch_size": 32}
        ranks[name] = measured(frozen, log, AdaptConfig(gate=f"mypackage.{name}:Mine", **sgd)).ranks
    frozen_ranks = measured(frozen, log, AdaptConfig(target="none")).ranks
    assert (ranks["none"] == frozen_ranks).all()
    assert (ranks["half"] != frozen_ranks).any() and (ranks["half"] != ranks["one"]).any()


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("", "mypackage.broken:Mine has no judge; expected what etarec.own_gate describes"),
        ("    def judge(self, batch): return 1", "judge returned int, expected an etarec.gate.Decision"),
        (f"{JUDGE}return Decision(torch.zeros(1))", "other reasons than values of Reason, one for each of 4 samples"),
        (f"{JUDGE}return Decision(torch.full((4,), 99))", "other reasons than values of Reason"),
        (f"{JUDGE}return Decision(torch.zeros(4), torch.ones(3))", r"weights \[3\], expected a finite number for each"),
        (f"{JUDGE}return Decision(torch.zeros(4), torch.full((4,), torch.nan))", "expected a finite number for each"),
        (f"{JUDGE}raise KeyError('x')", "judge raised KeyError: 'x', on a made-up batch"),
        (f"    needs_losses = True\n{EVERY}", "needs losses; expected target: weights, objective: next_item"),
        (
            "    __init__ = None\n    def judge(self, batch): ...",
            r"cannot be built with adapt.gate_options \(TypeError",
        ),
    ],
)
def test_a_class_that_breaks_a_rule_is_refused(own_package: Path, code: str, problem: str) -> None:
    (own_package / "broken.py").write_text(f"{HEAD}{code}\n")
    with pytest.raises(UserError, match=f"^adapt.gate: .*{problem}"):
        own_gate.check(AdaptConfig(gate="mypackage.broken:Mine", objective="entropy"))


def test_options_are_checked_against_the_class_s_dataclass(own_package: Path) -> None:
    own_gate.check(AdaptConfig(gate=GATE, gate_options={"margin": 2}))
    with pytest.raises(UserError, match=r'^adapt.gate_options.margin: given "wide", expected a number$'):
        own_gate.check(AdaptConfig(gate=GATE, gate_options={"margin": "wide"}))
