"""The weights that optimizer steps move, with EATA's penalty on moving away from the checkpoint.

Source: EATA (Niu et al., ICML 2022, equation 8).
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from etarec.adapt.memory import Snapshot, moments, named, restore_moments
from etarec.config import AdaptConfig
from etarec.models import SequenceModel


class MovingWeights:
    """The parameters of a model that `config.parameters` names, and their optimizer. All other parameters are frozen.

    fisher: computes the diagonal of the Fisher information by parameter name; called only if the penalty needs it.
    """

    def __init__(self, model: SequenceModel, config: AdaptConfig, fisher: Callable[[], Mapping[str, Tensor]]):
        self.config, self.weights = config, model.adaptable(config.parameters)
        penalised, episodic = config.fisher_alpha > 0, config.reset == "batch"
        squares = fisher() if penalised else {}
        moving = {id(weight) for weight in self.weights}
        self._fisher = [
            squares[name] for name, weight in model.named_parameters() if penalised and id(weight) in moving
        ]
        self._start = [weight.detach().clone() for weight in self.weights] if penalised or episodic else []
        model.requires_grad_(False)
        for weight in self.weights:
            weight.requires_grad_(True)
        self.optimizer = _optimizer(config, self.weights)

    def step(self, loss: Tensor) -> None:
        """Take one optimizer step down the gradient of a loss, which is a scalar, and of the penalty."""
        self.optimizer.zero_grad()
        loss.backward()
        for weight in self.weights:
            if weight.grad is not None and weight.grad.is_sparse:  # of the embedding alone; optimizers want it dense
                weight.grad = weight.grad.to_dense()
        for weight, start, importance in zip(self.weights, self._start, self._fisher, strict=False):
            if weight.grad is None:  # a shallow step does not reach it
                weight.grad = torch.zeros_like(weight)
            # of fisher_alpha * sum_i F_i (w_i - w0_i)^2
            weight.grad.addcmul_(importance, weight.detach() - start, value=2 * self.config.fisher_alpha)
        self.optimizer.step()

    def go_back(self) -> None:
        """Episodic adaptation: the next batch starts from the checkpoint's weights, with a fresh optimizer."""
        self._replace(self._start)

    def tensors(self) -> dict[str, Tensor]:
        """Copies of the weights and of the optimizer's moments, for a `Snapshot`."""
        weights = {str(n): weight for n, weight in enumerate(self.weights)}
        return named("weight", weights) | named("moment", moments(self.optimizer))

    def restore(self, snapshot: Snapshot) -> None:
        weights = snapshot.part("weight")
        self._replace([weights[str(n)] for n in range(len(self.weights))])
        restore_moments(self.optimizer, snapshot.part("moment"))

    def _replace(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            for weight, value in zip(self.weights, values, strict=True):
                weight.copy_(value)
        self.optimizer = _optimizer(self.config, self.weights)


def _optimizer(config: AdaptConfig, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=config.learning_rate, betas=(config.momentum, 0.999), fused=True)
    return torch.optim.SGD(parameters, lr=config.learning_rate, momentum=config.momentum)
