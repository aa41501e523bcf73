"""Configurations of adapters, and a record of the passes, backward passes and losses that one computes."""

import numpy as np
import pytest
import torch

from etarec import likelihood
from etarec.encode import Encoder
from etarec.ttt import INNER_LOOP

ALWAYS = {"gate": "open", "weighting": "none"}
NEVER = {"gate": "eta", "entropy_threshold": 0.0}
GATED = {"top_k": 5, "entropy_quantile": 0.8, "cosine_threshold": 0.8}
BY_LOSS = {"criterion": "loss", "entropy_quantile": 0.6, "cosine_threshold": 1.0, "top_k": 5}
# A rate that moves the ranks of a stream of some hundred samples.
WEIGHTS = {"target": "weights", "batch_size": 32, "learning_rate": 0.03}
AT_REQUEST, AT_ONCE = {"feedback": "next_request"}, {"feedback": "immediate"}


class Work:
    """Records the prefixes that were encoded, with and without a graph, and counts backward passes."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.encoded: list[tuple[bool, bool, np.ndarray]] = []
        self.backward, self.losses = 0, 0
        hidden, backward, entropy = Encoder.hidden, torch.Tensor.backward, likelihood.cross_entropy_sum

        def counting(encoder, model, starts, ends, inner=INNER_LOOP, **options):
            self.encoded.append((torch.is_grad_enabled(), inner.enabled, ends))
            return hidden(encoder, model, starts, ends, inner, **options)

        def counted_backward(*args, **kwargs):
            self.backward += 1
            return backward(*args, **kwargs)

        def counted_loss(*args, **kwargs):
            self.losses += 1
            return entropy(*args, **kwargs)

        patch.setattr(Encoder, "hidden", counting)
        patch.setattr(torch.Tensor, "backward", counted_backward)
        patch.setattr(likelihood, "cross_entropy_sum", counted_loss)

    def ends(self, *, graph: bool | None = None, inner_loop: bool | None = None) -> list[int]:
        chosen = [e for g, i, e in self.encoded if graph in (None, g) and inner_loop in (None, i)]
        return sorted(np.concatenate(chosen).tolist()) if chosen else []
