"""The embedded data set: a seeded world of users, items and habits that changes along a shared calendar.

Most items belong to genres. Such an item has a few successors among the best-known items of the genre that follows its
own; every genre changes that habit once, some items are replaced by a new edition, and genres rise and fall in
popularity, so a model of the calendar's first 30% ages. Everybody's history spans the calendar at an own pace: the
orders `position` and `time` both walk through the change. Three kinds of users give a gate something to tell apart:
explorers follow the habits, browsers click at random in a miscellany (nothing to learn), regulars walk a fixed routine
(nothing new).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from etarec.config import SimulationConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MISCELLANY_SHARE = 0.15  # of the items belong to no genre and are clicked at random
ITEMS_PER_GENRE = 90  # the fewer, the more of an item's habits can be told from its genre
POPULARITY_EXPONENT = 0.7  # Zipf: the r-th item of a genre has the popularity r^-exponent
GATEWAYS = 12  # items of a genre, its most popular ones, to which another genre's habits lead
SUCCESSOR_SHARES = (0.6, 0.25, 0.15)  # of an item's habitual transitions: one successor each
HABIT_CHANGE = (0.29, 0.75)  # first and last change of a genre's habit on the calendar
HABIT_CHANGE_EXPONENT = 3.0  # above 1: more of the changes come early, where validation sees them
TREND = 1.0  # standard deviation of a genre's log popularity, at the calendar's start and at its end
REPLACED_SHARE = 0.2  # of the items have a new edition that replaces them for good
REPLACEMENT = (0.3, 0.9)  # part of the calendar in which that happens
ROUTINES, ROUTINE_LENGTH = 4, 4  # fixed cycles of items; the fewer, the more alike regulars look to the gate
EXPLORER = 0
USER_SHARES = (0.65, 0.2, 0.15)  # explorers, browsers, regulars
STEPS = (  # chances that the next item is habitual, of the current interest, random, the routine's next
    (0.60, 0.30, 0.10, 0.00),  # explorers, whose random item is any
    (0.05, 0.05, 0.90, 0.00),  # browsers, whose random item is of the miscellany, like the regulars'
    (0.05, 0.05, 0.05, 0.85),  # regulars
)
INTEREST_DRIFT = 0.15  # chance per step that an interest moves on: to the following genre or to a trending one
SHORTEST, LONGEST = 6, 150  # interactions of a user
LENGTH_MEDIAN, LENGTH_SPREAD = 7.0, 0.8  # log-normal number of interactions beyond the shortest
START, DAYS = 1_600_000_000, 730  # the calendar: its first second (September 2020) and its length


@dataclass(frozen=True)
class _World:
    """G genres and I items, editions of one item counting once; times are parts of the calendar, 0 to 1."""

    genre: Ints  # [I], G for the miscellany
    weight: Floats  # [I], popularity within the genre
    following: Ints  # [2, G + 1], the genre that follows, before and after the change
    successors: Ints  # [2, I, successors]
    change: Floats  # [G + 1], when the genre changes its habit
    trend: Floats  # [2, G], log popularity at the calendar's start and end
    routines: Ints  # [routines, length]
    edition: Ints  # [I], number of the item's second edition, its own number if it has none
    replaced: Floats  # [I], when the second edition comes


def interactions(config: SimulationConfig) -> pd.DataFrame:
    """A log with the columns user_id, item_id and timestamp (seconds, increasing within a user), by user.

    The same configuration gives the same log. Items that nobody meets are missing from it.
    """
    generator = np.random.default_rng(config.seed)
    world = _world(config.items, generator)
    beyond = generator.lognormal(np.log(LENGTH_MEDIAN), LENGTH_SPREAD, config.users)
    lengths = np.minimum(SHORTEST + beyond.astype(np.int64), LONGEST)
    users = np.repeat(np.arange(config.users), lengths)
    starts = np.cumsum(lengths) - lengths
    times = (np.arange(len(users)) - starts[users] + generator.uniform(0.05, 0.95, len(users))) / lengths[users]
    items = _walk(world, starts, lengths, times, generator)
    items = np.where(times < world.replaced[items], items, world.edition[items])
    return pd.DataFrame(
        {
            "user_id": np.char.add("u", users.astype(str)),
            "item_id": np.char.add("i", items.astype(str)),
            "timestamp": START + np.floor(times * DAYS * 86_400).astype(np.int64),
        }
    )


def _world(editions: int, generator: np.random.Generator) -> _World:
    replaced = int(editions * REPLACED_SHARE / (1 + REPLACED_SHARE))
    items = editions - replaced
    placed = items - int(items * MISCELLANY_SHARE)
    genres = max(2, placed // ITEMS_PER_GENRE)
    place = generator.permutation(placed)
    genre = np.concatenate([place % genres, np.full(items - placed, genres)])
    rank = np.concatenate([place // genres, np.zeros(items - placed, np.int64)])
    weight = (rank + 1.0) ** -POPULARITY_EXPONENT
    following = np.stack([_cycle(genres, generator) for _ in range(2)])
    change = np.linspace(0, 1, genres + 1) ** HABIT_CHANGE_EXPONENT * np.ptp(HABIT_CHANGE) + HABIT_CHANGE[0]
    routines = min(ROUTINES, placed // 2 // ROUTINE_LENGTH)  # of a small catalogue, at most half
    cycles = generator.permutation(placed)[: routines * ROUTINE_LENGTH]
    edition = np.arange(items)
    replaceable = np.setdiff1d(edition, cycles)
    edition[generator.choice(replaceable, replaced, replace=False)] = np.arange(items, editions)
    return _World(
        genre=genre,
        weight=weight,
        following=following,
        successors=np.stack([_successors(genre, weight * (rank < GATEWAYS), after, generator) for after in following]),
        change=generator.permutation(change),
        trend=generator.normal(0, TREND, (2, genres)),
        routines=cycles.reshape(-1, ROUTINE_LENGTH),
        edition=edition,
        replaced=generator.uniform(*REPLACEMENT, items),
    )


def _successors(genre: Ints, weight: Floats, following: Ints, generator: np.random.Generator) -> Ints:
    """[I, successors] items of the genre that follows each item's own."""
    wanted = np.repeat(following[genre], len(SUCCESSOR_SHARES))
    return _within_genre(genre, weight, wanted, generator).reshape(len(genre), -1)


def _cycle(genres: int, generator: np.random.Generator) -> Ints:
    """Each genre's follower, never itself, and a genre that follows the miscellany."""
    ring = generator.permutation(genres)
    following = np.empty(genres + 1, np.int64)
    following[ring] = np.roll(ring, 1)
    following[genres] = ring[0]
    return following


def _walk(world: _World, starts: Ints, lengths: Ints, times: Floats, generator: np.random.Generator) -> Ints:
    """Every user's items, all users one step at a time."""
    items = np.empty(len(times), np.int64)
    kind = generator.choice(len(STEPS), len(lengths), p=USER_SHARES)
    routine = generator.integers(len(world.routines), size=len(lengths))
    interest = _trending(world, np.zeros(len(lengths)), generator)
    first_random = np.where(kind == EXPLORER, 0, int(np.argmax(world.genre)))
    for step in range(int(lengths.max())):
        active = np.flatnonzero(lengths > step)
        rows = starts[active] + step
        now = times[rows]
        interest[active] = _drift(world, interest[active], now, generator)
        last = items[rows - 1] if step else _within_genre(world.genre, world.weight, interest[active], generator)
        options = np.stack(
            [
                _habit(world, last, now, generator),
                _within_genre(world.genre, world.weight, interest[active], generator),
                generator.integers(first_random[active], len(world.genre), size=len(active)),
                world.routines[routine[active], step % ROUTINE_LENGTH],
            ]
        )
        chances = np.cumsum(np.array(STEPS), axis=1)[kind[active]]
        chosen = (generator.random((len(active), 1)) * chances[:, -1:] >= chances).sum(axis=1)
        items[rows] = options[chosen, np.arange(len(active))]
    return items


def _habit(world: _World, last: Ints, now: Floats, generator: np.random.Generator) -> Ints:
    """A successor of each last item, by its genre's habit of the day."""
    which = generator.choice(len(SUCCESSOR_SHARES), len(last), p=SUCCESSOR_SHARES)
    return world.successors[(now >= world.change[world.genre[last]]).astype(int), last, which]


def _drift(world: _World, interest: Ints, now: Floats, generator: np.random.Generator) -> Ints:
    """Interests after a step: kept, moved to the following genre, or caught by a trend."""
    followed = world.following[(now >= world.change[interest]).astype(int), interest]
    moved = np.where(generator.random(len(now)) < 0.5, followed, _trending(world, now, generator))
    return np.where(generator.random(len(now)) < INTEREST_DRIFT, moved, interest)


def _trending(world: _World, now: Floats, generator: np.random.Generator) -> Ints:
    """A genre for each time, by the popularity of the day (Gumbel-max sampling)."""
    scores = (1 - now[:, None]) * world.trend[0] + now[:, None] * world.trend[1]
    return np.argmax(scores + generator.gumbel(size=scores.shape), axis=1)


def _within_genre(genre: Ints, weight: Floats, wanted: Ints, generator: np.random.Generator) -> Ints:
    """An item of each wanted genre, by popularity (inverse transform over the items in genre order)."""
    order = np.argsort(genre, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    bounds = np.searchsorted(genre[order], np.arange(genre.max() + 2))
    low, high = cumulative[bounds[wanted]], cumulative[bounds[wanted + 1]]
    drawn = low + generator.random(len(wanted)) * (high - low)
    return order[np.clip(np.searchsorted(cumulative, drawn, side="right") - 1, bounds[wanted], bounds[wanted + 1] - 1)]
