"""EATA's penalty against forgetting (Niu et al., ICML 2022, equations 8 and 9): important weights move less."""

import numpy as np
import torch
from torch import Tensor

from etarec import likelihood
from etarec.data import stream
from etarec.encode import Encoder
from etarec.models import SequenceModel
from etarec.ragged import Int64s


def diagonal(model: SequenceModel, encoder: Encoder, samples: int) -> dict[str, Tensor]:
    """The diagonal Fisher information by name of the weight: the mean squared gradient of a training sample's loss.

    The loss is the cross-entropy of the sample's target. EATA has no labels and takes the model's prediction instead.
    samples: number of training samples drawn; the draw is always the same.
    """
    starts, ends = _training_samples(encoder, samples)
    weights = dict(model.named_parameters())
    moving = {name: weight.requires_grad for name, weight in weights.items()}
    model.eval().requires_grad_(True)
    squares = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for row in range(len(starts)):
        sample = slice(row, row + 1)
        target = encoder.items[torch.from_numpy(ends[sample]).to(encoder.device)] - 1
        loss = likelihood.cross_entropy(
            encoder.hidden(model, starts[sample], ends[sample]), model.items.weight, target, None, padding=1
        )
        gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for square, gradient in zip(squares.values(), gradients, strict=True):
            dense = gradient.to_dense() if gradient.is_sparse else gradient
            square.addcmul_(dense, dense, value=1 / len(starts))
    for name, weight in weights.items():
        weight.requires_grad_(moving[name])
    return squares


def _training_samples(encoder: Encoder, samples: int) -> tuple[Int64s, Int64s]:
    train = stream(encoder.data, "train", "user", 0)
    chosen = np.random.default_rng(0).permutation(len(train))[:samples]
    return encoder.ranges(train.users[chosen], train.positions[chosen])
