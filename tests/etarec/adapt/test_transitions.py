"""Which transitions samples offer: by hand, and never before the rank of their target is settled."""

from dataclasses import replace

import numpy as np
import pytest
from literal_adapt import CPU, World
from watched import ALWAYS, AT_REQUEST, WEIGHTS, Work

from etarec import adapt, evaluate
from etarec.adapt.transitions import Observed, Offer
from etarec.clock import Clock
from etarec.config import AdaptConfig, Reason
from etarec.data import Interactions, stream
from etarec.encode import Encoder

# Sample 1 of the batch offers nothing; samples 0 and 2 offer the same transition.
OFFER = Offer(np.array([0, 0, 2, 2, 3]), np.array([4, 5, 5, 6, 9]))


def pairs(offer: Offer) -> list[tuple[int, int]]:
    return list(zip(offer.owners.tolist(), offer.places.tolist(), strict=True))


def test_parts_of_an_offer() -> None:
    assert OFFER.nothing_to_learn(5).tolist() == [False, True, False, False, True]
    assert pairs(OFFER.by(np.array([True, True, False, True]))) == [(0, 4), (0, 5), (3, 9)]
    assert pairs(OFFER.newest()) == [(0, 5), (2, 6), (3, 9)]
    assert pairs(OFFER.distinct()) == [(0, 4), (0, 5), (2, 6), (3, 9)]
    assert pairs(Offer(np.array([0, 1, 1]), np.array([4, 5, 6])).newest()) == [(0, 4), (1, 6)]
    nothing = Offer(np.array([], int), np.array([], int))
    assert nothing.nothing_to_learn(2).all() and pairs(nothing.newest()) == pairs(nothing.distinct()) == []


def observed(log: Interactions, **config: object) -> Observed:
    return Observed(Encoder(log, CPU), stream(log, "test", "position", 0), AdaptConfig(**config))


def test_a_transition_takes_one_shallow_step_and_none_beside_a_pass_that_covers_it(log: Interactions) -> None:
    keeps = observed(log, filtered="output")
    nothing = np.array([], np.int64)
    assert pairs(keeps.shallow(OFFER, nothing)) == [(0, 5), (2, 6), (3, 9)]
    keeps.learned_shallowly(np.array([6]))
    assert keeps.took_shallow_step(OFFER.places).tolist() == [False, False, False, True, False]
    assert pairs(keeps.shallow(OFFER, nothing)) == [(0, 5), (3, 9)]
    assert pairs(keeps.shallow(OFFER, np.array([5]))) == [(3, 9)]


def test_a_target_is_offered_once_its_rank_is_settled(log: Interactions) -> None:
    keeps = observed(log, feedback="immediate", new_transitions_only=False)
    batch = slice(0, 6)
    own = set(keeps.ends[batch].tolist())
    assert own.isdisjoint(keeps.offer(batch).places.tolist())
    keeps.settle(batch)
    assert set(keeps.offer(batch).places.tolist()) == own


def test_what_a_pass_learned_is_pending_no_more(log: Interactions) -> None:
    for transitions, again in (("pending", False), ("last", True)):
        keeps = observed(log, feedback="next_request", transitions=transitions, new_transitions_only=False)
        before = keeps.offer(slice(0, 6))
        keeps.learned(before.places)
        assert len(before.places) and (pairs(keeps.offer(slice(0, 6))) == pairs(before)) == again


@pytest.mark.parametrize("transitions", ["last", "pending"])
def test_a_sample_offers_its_newest_transition_or_all_that_are_pending(log: Interactions, transitions: str) -> None:
    keeps = observed(log, feedback="next_request", transitions=transitions, new_transitions_only=False)
    keeps.settle(slice(None))
    batch = slice(0, 6)
    expected = [
        (sample, place)
        for sample, (start, end) in enumerate(zip(keeps.starts[batch], keeps.ends[batch], strict=True))
        for place in range(start + 1 if transitions == "pending" else max(start + 1, end - 1), end)
    ]
    assert pairs(keeps.offer(batch)) == expected and len(expected) >= 6


@pytest.mark.parametrize(("transitions", "again"), [("last", [(0, 5), (1, 7)]), ("pending", [(1, 7)])])
def test_adapting_on_all_learns_a_pending_transition_once(log: Interactions, transitions: str, again: list) -> None:
    keeps = observed(log, transitions=transitions)
    assert pairs(keeps.learned_by_all(OFFER)) == pairs(OFFER)
    assert pairs(keeps.learned_by_all(Offer(np.array([0, 1]), np.array([5, 7])))) == again


def test_marks_are_recalled_as_they_were(log: Interactions) -> None:
    """The first eight interactions have every combination of the three marks."""
    keeps, other = (observed(log, transitions="pending", new_transitions_only=False) for _ in range(2))
    learned, shallow, offered = (np.array([n for n in range(8) if n & bit]) for bit in (1, 2, 4))
    keeps.learned(learned)
    keeps.learned_shallowly(shallow)
    keeps.learned_by_all(Offer(np.zeros(len(offered), int), offered))
    marks = keeps.marks()
    assert marks.dtype == np.uint8 and marks[:8].tolist() == list(range(8)) and not marks[8:].any()
    other.recall(marks)
    assert other.marks().tolist() == marks.tolist()


def test_new_transitions_only_leaves_out_what_was_trained_on(world: World) -> None:
    samples, log = stream(world.log, "valid", "position", 0), world.log
    config = AdaptConfig(**WEIGHTS, **ALWAYS, **AT_REQUEST)
    new = evaluate.measure(world.model(), Encoder(log, CPU), samples, config, 0)
    assert new.admitted.tolist() == [
        t - 1 > log.train_end[u] for u, t in zip(samples.users, samples.positions, strict=True)
    ]
    assert (new.reasons == Reason.NOTHING_TO_LEARN).sum() == (~new.admitted).sum() > 0
    every = evaluate.measure(world.model(), Encoder(log, CPU), samples, replace(config, new_transitions_only=False), 0)
    assert every.admitted.all()
    tent = evaluate.measure(world.model(), Encoder(log, CPU), samples, replace(config, objective="entropy"), 0)
    assert tent.admitted.all()


@pytest.mark.parametrize("new_only", [True, False])
def test_an_input_of_one_item_has_no_transition(world: World, new_only: bool, monkeypatch) -> None:
    short = World(replace(world.log, max_length=1), world.frozen)
    work = Work(monkeypatch)
    measured = short.measure(AdaptConfig(**WEIGHTS, **ALWAYS, **AT_REQUEST, new_transitions_only=new_only))
    assert (measured.reasons == Reason.NOTHING_TO_LEARN).all() and work.backward == 0
    train = stream(world.log, "train", "position", 0)
    config = AdaptConfig(**WEIGHTS, **ALWAYS, **AT_REQUEST, new_transitions_only=False)
    first = evaluate.measure(world.model(), Encoder(world.log, CPU), train, config, 0)
    assert first.admitted.tolist() == (train.positions > 1).tolist()


@pytest.mark.parametrize("transitions", ["last", "pending"])
@pytest.mark.parametrize(
    ("order", "serve", "feedback"),
    [
        ("shuffled", "before", "next_request"),
        ("shuffled", "before", "immediate"),
        ("user", "before", "immediate"),
        ("user", "after", "next_request"),
        ("position", "after", "next_request"),
    ],
)
def test_nothing_is_learned_from_a_target_that_is_still_to_be_ranked(
    world, monkeypatch, order, serve, feedback, transitions
):
    learned, ranked = [], []
    owners = np.repeat(np.arange(world.log.n_users), np.diff(world.log.offsets))
    samples = stream(world.log, "test", order, 3)
    every = {"gate": "open", "new_transitions_only": False, "transitions": transitions, "feedback": feedback}
    config = AdaptConfig(**every, serve=serve, batch_size=12, learning_rate=1e-3)
    adapter = adapt.build(config, world.model(), Encoder(world.log, CPU), samples, Clock(CPU), seed=0)
    monkeypatch.setattr(adapter, "_learn_transitions", lambda rows, offer, *rest: learned.append(offer.places))
    admitted = 0
    for start in range(0, len(samples), 12):
        batch = slice(start, start + 12)
        settled = set(ranked)
        admitted += int(adapter.serve(batch)[1].admitted.sum())
        ranked += zip(samples.users[batch], samples.positions[batch], strict=True)
        settled = settled if serve == "after" else set(ranked)
        streamed = set(zip(samples.users, samples.positions, strict=True))
        for place in learned[-1] if learned else []:
            assert (owners[place], place - world.log.offsets[owners[place]]) not in streamed - settled
        learned.clear()
    assert admitted == len(samples) if feedback == "immediate" else 0 < admitted <= len(samples)
