"""Which transitions samples offer: by hand, and never before the rank of their target is settled."""

import numpy as np
import torch

from etarec.adapt.transitions import Observed, Offer, ServedLosses
from etarec.config import AdaptConfig
from etarec.data import Interactions, stream
from etarec.encode import Encoder

CPU = torch.device("cpu")
# Sample 1 of the batch offers nothing; samples 0 and 2 offer the same transition.
OFFER = Offer(np.array([0, 0, 2, 2, 3]), np.array([4, 5, 5, 6, 9]))


def pairs(offer: Offer) -> list[tuple[int, int]]:
    return list(zip(offer.owners.tolist(), offer.places.tolist(), strict=True))


def test_parts_of_an_offer() -> None:
    assert OFFER.nothing_to_learn(5).tolist() == [False, True, False, False, True]
    assert pairs(OFFER.by(np.array([True, True, False, True]))) == [(0, 4), (0, 5), (3, 9)]
    assert pairs(OFFER.newest()) == [(0, 5), (2, 6), (3, 9)]
    assert pairs(OFFER.distinct()) == [(0, 4), (0, 5), (2, 6), (3, 9)]
    nothing = Offer(np.array([], int), np.array([], int))
    assert nothing.nothing_to_learn(2).all() and pairs(nothing.newest()) == pairs(nothing.distinct()) == []


def observed(log: Interactions, **config: object) -> Observed:
    return Observed(Encoder(log, CPU), stream(log, "test", "position", 0), AdaptConfig(**config))


def test_a_transition_takes_one_shallow_step_and_none_beside_a_pass_that_covers_it(log: Interactions) -> None:
    keeps = observed(log, filtered="output")
    nobody = np.zeros(4, np.bool_)
    assert pairs(keeps.shallow(OFFER, nobody)) == [(0, 5), (2, 6), (3, 9)]
    keeps.learned_shallowly(np.array([6]))
    assert keeps.took_shallow_step(OFFER.places).tolist() == [False, False, False, True, False]
    assert pairs(keeps.shallow(OFFER, nobody)) == [(0, 5), (3, 9)]
    first = np.array([True, False, False, False])
    assert pairs(keeps.shallow(Offer(np.array([0, 2]), np.array([5, 5])), first)) == []


def test_a_target_is_offered_once_its_rank_is_settled(log: Interactions) -> None:
    keeps = observed(log, feedback="immediate", new_transitions_only=False)
    batch = slice(0, 6)
    own = set(keeps.ends[batch].tolist())
    assert own.isdisjoint(keeps.offer(batch).places.tolist())
    keeps.settle(batch)
    assert set(keeps.offer(batch).places.tolist()) == own


def test_what_a_pass_learned_is_pending_no_more(log: Interactions) -> None:
    for transitions, again in (("pending", False), ("last", True)):
        keeps = observed(log, transitions=transitions, new_transitions_only=False)
        before = keeps.offer(slice(0, 6))
        keeps.learned(before.places)
        assert len(before.places) and (pairs(keeps.offer(slice(0, 6))) == pairs(before)) == again


def test_losses_are_kept_by_transition_and_averaged_by_sample() -> None:
    losses = ServedLosses(12, torch.float64)
    losses.record(np.array([4, 5]), torch.tensor([1.0, 2.0]))
    assert pairs(losses.missing(OFFER, own=np.array([9]))) == [(2, 6)]  # the batch's own targets get theirs
    twice = Offer(np.array([0, 1]), np.array([7, 7]))
    assert pairs(losses.missing(twice, own=np.array([9]))) == [(0, 7)]
    losses.record(np.array([6, 9]), torch.tensor([4.0, 8.0]))
    np.testing.assert_array_equal(losses.means(OFFER, 5), [1.5, np.nan, 3.0, 8.0, np.nan])
