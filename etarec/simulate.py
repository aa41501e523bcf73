"""The embedded data set: seeded interactions of users and items whose patterns change over a shared calendar.

Most items belong to a genre, and every genre is followed by another one. An item's successors are a few of the most
popular items of the following genre. A model trained on the calendar's first 30% ages for three reasons: every genre
changes its successors once, some items are replaced by a new edition, and genres rise and fall in popularity. Every
user's history spans the calendar, so the stream orders `position` and `time` both pass through these changes.

Three kinds of users differ in what a gate should decide. Explorers follow the successors: these samples show what has
changed, and adapting to them pays. Browsers choose at random from a large miscellany: there is nothing to learn, and a
pass over such a sample moves the weights for nothing. Regulars repeat a fixed routine, so there is nothing new. Nearly
half of the interactions are a browser's, so a gate that finds them can skip that share and gain by it, where skipping
at random loses the explorers' samples too. A browser's item has a large loss, because each of hundreds is as likely.
Shares and sizes were set by HR@10 on validation: for the gate by loss against random skipping at the same rate.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from etarec.config import SimulationConfig

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Share of the items that belong to no genre and are chosen at random. With fewer of them, a browser's next item has no
# larger loss than an explorer's that the model has yet to learn.
MISCELLANY_SHARE = 0.3
ITEMS_PER_GENRE = 90  # with fewer, an item's genre says more about its successors
POPULARITY_EXPONENT = 0.7  # Zipf: the r-th item of a genre has the popularity r^-exponent
SUCCESSORS_PER_GENRE = 12  # a genre's most popular items, from which the successors are drawn
SUCCESSOR_SHARES = (0.6, 0.25, 0.15)  # shares of an item's three successors among its transitions to a successor
CHANGE_PERIOD = (0.29, 0.75)  # part of the calendar in which genres change their successors
CHANGE_EXPONENT = 3.0  # above 1, more of these changes come early, where validation sees them
TREND_DEVIATION = 1.0  # standard deviation of a genre's log popularity, at the calendar's start and at its end
REPLACED_SHARE = 0.2  # share of the items that a new edition replaces for good
REPLACEMENT_PERIOD = (0.3, 0.9)  # part of the calendar in which new editions appear
ROUTINES, ROUTINE_LENGTH = 4, 4  # fixed cycles of items; with fewer, regulars look more alike to the gate
EXPLORER = 0  # index of the explorers in the two tuples below
USER_SHARES = (0.5, 0.4, 0.1)  # explorers, browsers, regulars
STEP_CHANCES = (  # chance that the next item is a successor, of the current interest, random, the routine's next
    (0.60, 0.30, 0.10, 0.00),  # explorers; their random item is any item
    (0.05, 0.05, 0.90, 0.00),  # browsers; their random item is from the miscellany
    (0.05, 0.05, 0.05, 0.85),  # regulars; their random item is from the miscellany
)
INTEREST_DRIFT = 0.15  # chance per step that an interest moves to the following genre or to a trending one
MIN_LENGTH, MAX_LENGTH = 6, 150  # interactions of a user
EXTRA_MEDIAN, EXTRA_DEVIATION = 7.0, 0.8  # log-normal number of interactions beyond MIN_LENGTH
START, DAYS = 1_600_000_000, 730  # the calendar's first second (September 2020) and its length


@dataclass(frozen=True)
class _World:
    """G genres and I items (first editions only). Times are fractions of the calendar, 0 to 1."""

    genre: Ints  # [I], the number of genres G stands for the miscellany
    weight: Floats  # [I], popularity within the genre
    following: Ints  # [2, G + 1], the genre that follows, before and after the change
    successors: Ints  # [2, I, successors], before and after the change
    change: Floats  # [G + 1], time at which the genre changes its successors
    trend: Floats  # [2, G], log popularity at the calendar's start and at its end
    routines: Ints  # [ROUTINES, ROUTINE_LENGTH] items
    edition: Ints  # [I], number of the item's second edition, or the item's own number if there is none
    replaced: Floats  # [I], time at which the second edition appears


def interactions(config: SimulationConfig) -> pd.DataFrame:
    """A log with the columns user_id, item_id and timestamp in seconds, sorted by user and increasing time.

    The same configuration gives the same log. Items that no user interacts with are not in it.
    """
    generator = np.random.default_rng(config.seed)
    world = _world(config.items, generator)
    extra = generator.lognormal(np.log(EXTRA_MEDIAN), EXTRA_DEVIATION, config.users)
    lengths = np.minimum(MIN_LENGTH + extra.astype(np.int64), MAX_LENGTH)
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
    in_genres = items - int(items * MISCELLANY_SHARE)
    genres = max(2, in_genres // ITEMS_PER_GENRE)
    genre, rank = _genres(items, in_genres, genres, generator)
    weight = np.power(rank + 1.0, -POPULARITY_EXPONENT, dtype=np.float64)
    following = np.stack([_cycle(genres, generator) for _ in range(2)])
    change = np.linspace(0, 1, genres + 1) ** CHANGE_EXPONENT * np.ptp(CHANGE_PERIOD) + CHANGE_PERIOD[0]
    routines = min(ROUTINES, in_genres // 2 // ROUTINE_LENGTH)  # at most half of a small catalogue
    routine_items = generator.permutation(in_genres)[: routines * ROUTINE_LENGTH]
    edition = _second_editions(items, replaced, routine_items, generator)
    popular = weight * (rank < SUCCESSORS_PER_GENRE)
    return _World(
        genre=genre,
        weight=weight,
        following=following,
        successors=np.stack([_successors(genre, popular, after, generator) for after in following]),
        change=generator.permutation(change),
        trend=generator.normal(0, TREND_DEVIATION, (2, genres)),
        routines=routine_items.reshape(-1, ROUTINE_LENGTH),
        edition=edition,
        replaced=generator.uniform(*REPLACEMENT_PERIOD, items),
    )


def _genres(items: int, in_genres: int, genres: int, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """Every item's genre and its rank within the genre, from 0, both [items]. The miscellany has the last items."""
    place = generator.permutation(in_genres)
    genre = np.concatenate([place % genres, np.full(items - in_genres, genres)])
    return genre, np.concatenate([place // genres, np.zeros(items - in_genres, np.int64)])


def _second_editions(items: int, replaced: int, kept: Ints, generator: np.random.Generator) -> Ints:
    """The number of every item's second edition, or its own number, [items]; the items `kept` have none."""
    edition = np.arange(items)
    replaceable = np.setdiff1d(edition, kept)
    edition[generator.choice(replaceable, replaced, replace=False)] = np.arange(items, items + replaced)
    return edition


def _successors(genre: Ints, weight: Floats, following: Ints, generator: np.random.Generator) -> Ints:
    """Successors of every item, [I, successors], drawn from the genre that follows the item's own."""
    wanted = np.repeat(following[genre], len(SUCCESSOR_SHARES))
    return _within_genre(genre, weight, wanted, generator).reshape(len(genre), -1)


def _cycle(genres: int, generator: np.random.Generator) -> Ints:
    """The genre that follows each genre, never the genre itself, and the one that follows the miscellany: [G + 1]."""
    ring = generator.permutation(genres)
    following = np.empty(genres + 1, np.int64)
    following[ring] = np.roll(ring, 1)
    following[genres] = ring[0]
    return following


def _walk(world: _World, starts: Ints, lengths: Ints, times: Floats, generator: np.random.Generator) -> Ints:
    """The items of all users' histories, [N]; each step of the loop adds one item to every history that goes on."""
    items = np.empty(len(times), np.int64)
    kind = generator.choice(len(STEP_CHANCES), len(lengths), p=USER_SHARES)
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
                _successor(world, last, now, generator),
                _within_genre(world.genre, world.weight, interest[active], generator),
                generator.integers(first_random[active], len(world.genre), size=len(active)),
                world.routines[routine[active], step % ROUTINE_LENGTH],
            ]
        )
        chances = np.cumsum(np.array(STEP_CHANCES), axis=1)[kind[active]]
        chosen = (generator.random((len(active), 1)) * chances[:, -1:] >= chances).sum(axis=1)
        items[rows] = options[chosen, np.arange(len(active))]
    return items


def _successor(world: _World, last: Ints, now: Floats, generator: np.random.Generator) -> Ints:
    """One successor of each last item, from the successors that hold at the time `now`."""
    which = generator.choice(len(SUCCESSOR_SHARES), len(last), p=SUCCESSOR_SHARES)
    return world.successors[(now >= world.change[world.genre[last]]).astype(int), last, which]


def _drift(world: _World, interest: Ints, now: Floats, generator: np.random.Generator) -> Ints:
    """The users' interests after a step: unchanged, the following genre, or a trending genre."""
    followed = world.following[(now >= world.change[interest]).astype(int), interest]
    moved = np.where(generator.random(len(now)) < 0.5, followed, _trending(world, now, generator))
    return np.where(generator.random(len(now)) < INTEREST_DRIFT, moved, interest)


def _trending(world: _World, now: Floats, generator: np.random.Generator) -> Ints:
    """A genre for each time, drawn by the genres' popularity at that time (Gumbel-max sampling)."""
    scores = (1 - now[:, None]) * world.trend[0] + now[:, None] * world.trend[1]
    return np.argmax(scores + generator.gumbel(size=scores.shape), axis=1)


def _within_genre(genre: Ints, weight: Floats, wanted: Ints, generator: np.random.Generator) -> Ints:
    """An item of each wanted genre, drawn by popularity (inverse transform sampling over items in genre order)."""
    order = np.argsort(genre, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    bounds = np.searchsorted(genre[order], np.arange(genre.max() + 2))
    low, high = cumulative[bounds[wanted]], cumulative[bounds[wanted + 1]]
    drawn = low + generator.random(len(wanted)) * (high - low)
    return order[np.clip(np.searchsorted(cumulative, drawn, side="right") - 1, bounds[wanted], bounds[wanted + 1] - 1)]
