"""The interface that every model inherits: embeddings, dropout, padding and groups of weights."""

import inspect

import pytest
import torch
from small_models import TTT4REC, sequences
from torch.nn import functional as F

from etarec.config import ModelConfig
from etarec.models import ARCHITECTURES, InnerLoopModel, SequenceModel, build


def test_dropout_hits_the_embeddings_in_training_only():
    torch.manual_seed(0)
    model, items = build(TTT4REC, 30, dropout=0.5), sequences(2, 6)
    seen = []
    model.input_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    model(items)
    assert 0.3 < float((seen[0] == 0).double().mean()) < 0.7
    model.eval()
    torch.testing.assert_close(model(items), model(items), rtol=0, atol=0)
    torch.testing.assert_close(seen[-1], model.items.weight[items].detach())


def test_padding_takes_no_gradient():
    model = build(TTT4REC, 30)
    model(F.pad(sequences(2, 6), (0, 3))).square().sum().backward()
    gradient = model.items.weight.grad.to_dense()
    assert (gradient[0] == 0).all() and (gradient[1:] != 0).any()


def test_item_vectors_leave_the_padding_out_and_share_the_embeddings():
    model = build(TTT4REC, 30)
    assert model.item_vectors.shape == (29, 16)
    assert model.item_vectors.data_ptr() == model.items.weight[1].data_ptr()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_models_with_an_inner_loop_see_its_options(name):
    model = ARCHITECTURES[name]
    own = issubclass(model, InnerLoopModel)
    for method, parameters in ((model.encode, ["self", "x"]), (model.forward, ["self", "items"])):
        assert list(inspect.signature(method).parameters) == [*parameters, "outputs", *["inner"] * own]
    assert own == (name == "ttt4rec") and issubclass(model, SequenceModel)


def test_adaptable_groups():
    model = build(ModelConfig(width=16, heads=2, blocks=2), 30)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {group: {names[id(p)] for p in model.adaptable(group)} for group in ("projections", "body", "all")}
    projections = {f"blocks.{block}.ttt.{name}.weight" for block in (0, 1) for name in "qkvo"}
    assert groups == {
        "projections": projections,
        "body": set(names.values()) - {"items.weight"},
        "all": set(names.values()),
    }
