"""The losses of a step against torch's own formulas, and which tensors their gradients reach."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from etarec.adapt import losses
from etarec.config import AdaptConfig

D, V, T = 8, 40, 6
GENERATOR = torch.Generator().manual_seed(0)
TABLE, HIDDEN = (torch.randn(n, D, generator=GENERATOR, dtype=torch.float64) for n in (1 + V, T))
TARGETS, WEIGHTS = torch.arange(3, 3 + T), torch.arange(1.0, 1 + T, dtype=torch.float64)


def tables() -> tuple[torch.Tensor, torch.Tensor]:
    return TABLE.clone().requires_grad_(), HIDDEN.clone().requires_grad_()


def test_a_repeated_transition_leaves_the_item_vectors_at_the_output_alone() -> None:
    repeated = np.array([True, False, False, True, False, False])
    table, hidden = tables()
    sum(losses.of_passes(AdaptConfig(), table, hidden, TARGETS, WEIGHTS, repeated, None)).backward()
    literal, states = tables()
    each = WEIGHTS * F.cross_entropy(states @ literal[1:].T, TARGETS, reduction="none")
    (of_states,) = torch.autograd.grad(each.sum(), states, retain_graph=True)
    (of_table,) = torch.autograd.grad(each[~torch.from_numpy(repeated)].sum(), literal)
    torch.testing.assert_close(hidden.grad, of_states)
    torch.testing.assert_close(table.grad, of_table)


def test_the_corrected_likelihood_counts_the_items_that_would_be_admitted() -> None:
    config = AdaptConfig(criterion="loss", correction="selection")
    nothing = np.zeros(T, np.bool_)
    plain = sum(losses.of_passes(AdaptConfig(), TABLE, HIDDEN, TARGETS, WEIGHTS, nothing, 4.0))
    with_all = sum(losses.of_passes(config, TABLE, HIDDEN, TARGETS, WEIGHTS, nothing, 1e9))
    with_few = sum(losses.of_passes(config, TABLE, HIDDEN, TARGETS, WEIGHTS, nothing, 4.0))
    torch.testing.assert_close(with_all, plain)
    assert with_few < plain


@pytest.mark.parametrize("negatives", [None, V])
def test_shallow_steps_learn_a_mean_over_all_that_the_step_learns(negatives: int | None) -> None:
    """Drawing every item is the whole softmax."""
    found = losses.of_shallow_steps(TABLE, HIDDEN, TARGETS, 10, negatives, np.random.default_rng(0))
    torch.testing.assert_close(found, F.cross_entropy(HIDDEN @ TABLE[1:].T, TARGETS, reduction="sum") / 10)


@pytest.mark.parametrize("top_k", [2, 5, None])
def test_entropies_of_few_scores_are_those_of_sorting_all(top_k: int | None) -> None:
    """With K = 2 of 40 items the scores are gathered, with more they are all computed."""
    vectors, hidden = tables()
    found = losses.topk_entropies(hidden, vectors[1:], top_k)
    literal, states = tables()
    chances = (states @ literal[1:].T).sort(descending=True).values[:, :top_k].softmax(1)
    expected = -(chances * chances.log()).sum(1)
    torch.testing.assert_close(found, expected)
    for loss in (found, expected):
        (loss * WEIGHTS).sum().backward()
    torch.testing.assert_close(vectors.grad, literal.grad)
    torch.testing.assert_close(hidden.grad, states.grad)
