"""The states and losses that serving leaves for learning."""

import numpy as np
import torch

from etarec.adapt.served import Served, ServedLosses
from etarec.adapt.transitions import Offer

# Sample 1 of the batch offers nothing; samples 0 and 2 offer the same transition.
OFFER = Offer(np.array([0, 0, 2, 2, 3]), np.array([4, 5, 5, 6, 9]))


def pairs(offer: Offer) -> list[tuple[int, int]]:
    return list(zip(offer.owners.tolist(), offer.places.tolist(), strict=True))


def test_losses_are_kept_by_transition_and_averaged_by_sample() -> None:
    losses = ServedLosses(12, torch.float64)
    losses.record(np.array([4, 5]), torch.tensor([1.0, 2.0]))
    assert pairs(losses.missing(OFFER, own=np.array([9]))) == [(2, 6)]  # the batch's own targets get theirs
    twice = Offer(np.array([0, 1]), np.array([7, 7]))
    assert pairs(losses.missing(twice, own=np.array([9]))) == [(0, 7)]
    losses.record(np.array([6, 9]), torch.tensor([4.0, 8.0]))
    np.testing.assert_array_equal(losses.means(OFFER, 5), [1.5, np.nan, 3.0, 8.0, np.nan])


def test_a_samples_own_target_has_its_state_and_a_further_transition_that_of_its_place() -> None:
    """Two samples with targets 5 and 9, and further transitions at 3 and 7."""
    states = torch.arange(4.0)[:, None]
    served = Served(states, None, 2, Offer(np.array([0, 1]), np.array([3, 7])))
    offer = Offer(np.array([0, 0, 1, 1]), np.array([3, 5, 7, 9]))
    assert served.hidden[:, 0].tolist() == [0, 1]
    assert served.before(offer, np.array([5, 9]), states)[:, 0].tolist() == [2, 0, 3, 1]
