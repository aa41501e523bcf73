"""A checkpoint of weights that were trained elsewhere, from which a search starts without training."""

from collections.abc import Mapping

from torch import Tensor

from etarec.checkpoint import Checkpoint, code_of
from etarec.config import AdaptConfig, ModelConfig, TrainConfig, UserError
from etarec.data import Interactions, stream
from etarec.device import default_device
from etarec.encode import Encoder
from etarec.evaluate import measure
from etarec.metrics import quality
from etarec.models import build


def adopt(data: Interactions, model: ModelConfig, weights: Mapping[str, Tensor]) -> Checkpoint:
    """A checkpoint of `weights` for `data`; its epoch is 0, its quality is measured here on validation.

    The weights must come from the training split of `data` alone: nothing here can tell whether they saw more.

    Args:
        data: the log as `etarec.data.load` splits it. Item code c is `data.vocabulary[c - 1]`, 0 is padding.
        model: its architecture or class, and sizes.
        weights: as the model's `state_dict` names them.

    Raises:
        UserError: a weight is missing, has no place or another shape.
    """
    learner = build(model, data.n_items)
    expected = {name: tuple(weight.shape) for name, weight in learner.state_dict().items()}
    for name in sorted(expected.keys() | weights.keys()):
        given = tuple(weights[name].shape) if name in weights else None
        if given != expected.get(name):
            raise UserError(f"weight {name}: {_shape(given)}, expected {_shape(expected.get(name))}")
    learner.load_state_dict(dict(weights))
    learner = learner.to(default_device())
    validation = stream(data, "valid", "user", 0)
    valid = quality(
        measure(learner, Encoder(data, default_device()), validation, AdaptConfig(target="none"), seed=0).ranks
    )
    kept = {name: weight.cpu().numpy().copy() for name, weight in learner.state_dict().items()}
    return Checkpoint(model, TrainConfig(), kept, data.vocabulary, data.sha256, 0, valid, code_of(model))


def _shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else f"shape {list(shape)}"
