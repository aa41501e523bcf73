"""Histories are cut and forgotten as promised, and laid out in the order of the users' codes."""

import numpy as np
import pyarrow as pa

from etarec.adapt.memory import Marks
from etarec.serving.histories import ANY_ITEM, History, Sample, Users, first_history, flat

VOCABULARY = pa.array([str(n) for n in range(1, 10)], pa.large_string())


def history(code: int, *items: int) -> History:
    bits = np.array(items, np.uint8)
    return History(code, np.array(items, np.int32), Marks(bits, bits.astype(np.float32)))


def test_users_keep_their_codes_order_and_their_marks():
    late, early = history(7, 4, 5), history(2, 1, 2, 3)
    batch = flat([Sample(late, 1), Sample(early, 2), Sample(early, 1)], VOCABULARY, 9, open_end=False)
    assert batch.owners == [early, late]
    assert batch.data.offsets.tolist() == [0, 3, 5] and batch.data.items.tolist() == [1, 2, 3, 4, 5]
    assert batch.stream.users.tolist() == [1, 0, 0] and batch.stream.positions.tolist() == [1, 2, 1]
    assert batch.marks.bits.tolist() == [1, 2, 3, 4, 5]


def test_an_open_end_has_a_place_for_the_unknown_item():
    batch = flat([Sample(history(0, 4, 5), 2), Sample(history(1, 6), 1)], VOCABULARY, 9, open_end=True)
    assert batch.data.items.tolist() == [4, 5, ANY_ITEM, 6, ANY_ITEM] and batch.marks.bits.tolist() == [4, 5, 0, 6, 0]


def test_learned_histories_get_their_marks_and_are_cut():
    users = Users(max_length=3, max_users=10)
    samples = [users.append("ada", item) for item in (1, 2, 3, 4, 5)]
    assert samples[0] is None and [sample.position for sample in samples[1:]] == [1, 2, 3, 4]
    ada = users.by_token["ada"]
    assert ada.waiting == 4 and len(ada.items) == 5
    batch = flat(samples[1:], VOCABULARY, 3, open_end=False)
    batch.put_back(Marks(np.arange(5, dtype=np.uint8), np.arange(5, dtype=np.float32)), 3)
    assert ada.items.tolist() == [3, 4, 5] and ada.marks.bits.tolist() == [2, 3, 4] and ada.waiting == 0


def test_the_longest_unseen_users_are_forgotten_but_none_with_something_to_learn():
    users = Users(max_length=3, max_users=2)
    for token, item in (("ada", 1), ("bob", 1), ("ada", 2), ("cyd", 1)):
        users.append(token, item)
    assert list(users.by_token) == ["ada", "cyd"] and users.forgotten == 1
    users.append("dan", 1)
    assert list(users.by_token) == ["ada", "dan"] and users.by_token["ada"].waiting == 1
    assert users.by_token["dan"].code == 3


def test_a_log_gives_its_last_items(log):
    marks = Marks(np.arange(log.n_interactions, dtype=np.uint8), np.zeros(log.n_interactions, np.float32))
    users = Users.of(log, [f"user {n}" for n in range(log.n_users)], marks, max_users=1000)
    assert len(users.by_token) == log.n_users == users.next_code
    for n, kept in enumerate(users.by_token.values()):
        own = log.items[log.offsets[n] : log.offsets[n + 1]]
        assert kept.items.tolist() == own[-log.max_length :].tolist() and len(kept.marks.bits) == len(kept.items)
    few = Users.of(log, [f"user {n}" for n in range(log.n_users)], marks, max_users=2)
    assert list(few.by_token) == [f"user {log.n_users - 2}", f"user {log.n_users - 1}"]


def test_a_new_history_is_empty():
    assert len(first_history(3).items) == 0 and first_history(3).code == 3
