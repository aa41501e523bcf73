"""Wanted positions, and sequences without padding."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from etarec.ragged import OutputPositions, Ragged

WANTED = st.lists(st.sets(st.integers(0, 11), min_size=1), min_size=1, max_size=9)  # positions of each sequence


def ragged(wanted: list[set[int]]) -> Ragged:
    rows = np.repeat(np.arange(len(wanted)), [len(each) for each in wanted])
    return Ragged.of(rows, np.array([position for each in wanted for position in sorted(each)]))


def owned(sequences: Ragged) -> list[tuple[int, int]]:
    """(sequence, position) of every query, found the long way."""
    parts = zip(sequences.queries, sequences.queries[1:], strict=False)
    return [(row, position) for row, (a, b) in enumerate(parts) for position in sequences.positions[a:b].tolist()]


@given(WANTED)
def test_sequences_end_at_their_last_queries(wanted):
    sequences = ragged(wanted)
    assert sequences.lengths.tolist() == [max(each) + 1 for each in wanted]
    assert sequences.starts.tolist() == [0, *np.cumsum(sequences.lengths)[:-1]]
    assert owned(sequences) == [(row, position) for row, each in enumerate(wanted) for position in sorted(each)]
    tokens = [sequences.starts[row] + position for row, position in owned(sequences)]
    assert sequences.tokens.tolist() == tokens
    assert sequences.owners[sequences.tokens].tolist() == [row for row, _ in owned(sequences)]


@given(WANTED)
def test_every_token_can_be_a_query(wanted):
    sequences = ragged(wanted).querying_all()
    assert owned(sequences) == [(row, n) for row, length in enumerate(sequences.lengths) for n in range(length)]
    assert sequences.tokens.tolist() == list(range(sequences.lengths.sum()))


@given(WANTED, st.integers(1, 60))
def test_cuts_keep_to_the_limit_and_lose_nothing(wanted, limit):
    whole = ragged(wanted)
    runs = list(whole.cut(limit))
    for (inside, run), following in zip(runs, [*runs[1:], None], strict=True):
        assert run.starts[0] == 0 and inside.stop - inside.start == run.lengths.sum()
        assert run.lengths.sum() <= limit or len(run.lengths) == 1
        if following:
            assert following[0].start == inside.stop and run.lengths.sum() + following[1].lengths[0] > limit
    assert [length for _, run in runs for length in run.lengths] == whole.lengths.tolist()
    assert np.concatenate([run.tokens + inside.start for inside, run in runs]).tolist() == whole.tokens.tolist()


@pytest.mark.parametrize(
    ("since", "lengths", "tokens"),
    [(2, None, [2, 3, 6, 7]), (0, None, [*range(8)]), (0, [3, 1], [2, 4])],
)
def test_padded_rows_query_the_wanted_positions(since, lengths, tokens):
    outputs = OutputPositions(since, None if lengths is None else torch.tensor(lengths, dtype=torch.int32))
    x = torch.arange(8).view(2, 4, 1)
    assert outputs.of(x).flatten().tolist() == tokens and outputs.of(x).shape[1] == outputs.count(4)
    sequences = Ragged.padded(2, 4, outputs)
    assert sequences.starts.tolist() == [0, 4] and sequences.lengths.tolist() == (lengths or [4, 4])
    assert sequences.tokens.tolist() == tokens and all(array.dtype == np.int64 for array in sequences)
