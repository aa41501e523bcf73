"""The figures of docs/serving.md on memory and files hold, and no call takes longer because there are more users."""

import gc
import re
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from etarec.adapt.memory import Marks
from etarec.config import AdaptConfig, ModelConfig
from etarec.serving import Durable, state
from etarec.serving.catalogue import Catalogue
from etarec.serving.histories import Users
from tests.benchmarks.serving_state import TOKEN, Measured, _child, log_of, names
from tests.pages import page

from .deployment import Deployment

PAGE = page("docs/serving.md")
COUNT = 4000
LEAST = 0.6  # of a stated figure that must be needed: a figure may be generous, but not by much


def stated(row: str, column: int) -> int:
    """The first number of a cell in the page's table, whose columns are memory (1) and disk (2)."""
    (line,) = re.findall(rf"^\| {row} \|.*", PAGE, flags=re.M)
    return int(re.findall(r"\d+", line.split("|")[1 + column])[0])


def assert_stated(measured: float, figure: int) -> None:
    assert LEAST * figure <= measured <= figure


def allocated(make: Callable[[], Any]) -> int:
    """The bytes that Python and numpy keep for an object."""
    gc.collect()
    tracemalloc.start()
    made = make()
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del made
    return size


@pytest.mark.parametrize("kept", [0, 50])
def test_a_user_takes_what_is_stated(kept):
    log = log_of(COUNT, 100, kept)
    marks = Marks.blank(len(log.items))
    size = allocated(lambda: Users.of(log, names(COUNT), marks, COUNT))
    assert_stated(size / COUNT - TOKEN - 9 * kept, stated("each user", 1))


def test_an_item_takes_what_is_stated():
    vocabulary = log_of(1, COUNT).vocabulary
    size = allocated(lambda: Catalogue(vocabulary, np.zeros(0, np.int32)))
    assert_stated(size / COUNT - TOKEN, stated("each item", 1))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "place"), [("frozen", 0), ("adapting", 1)])
def test_a_weight_takes_no_more_than_is_stated(kind, place):
    """In processes of their own, whose resident memory includes what torch's allocator keeps."""
    few, many = (Measured(*_child([kind, "300", str(n_items)])) for n_items in (20_000, 120_000))
    each_weight = [int(text) for text in re.findall(r"(?:`state`|target `weights`) (\d+): (?:the c|also)", PAGE)][place]
    most = stated("each item", 1) + TOKEN + each_weight * ModelConfig().width
    assert LEAST * most <= (many.memory - few.memory) / 100_000 <= most


def snapshot_size(deployment: Deployment, path, n_users: int) -> int:
    recommender, log = deployment.recommender(AdaptConfig(target="none")), log_of(n_users, 10)
    recommender.users = Users.of(log, names(n_users), Marks.blank(len(log.items)), n_users)
    state.write(recommender, path, 1)
    return path.stat().st_size


def test_a_user_takes_on_disk_what_is_stated(deployment, tmp_path):
    few, many = (snapshot_size(deployment, tmp_path / "state", count) for count in (1000, 3000))
    assert_stated((many - few) / 2000 - TOKEN - 9 * 50, stated("each user", 2))


def test_the_journal_grows_as_stated_and_ends_with_a_snapshot(deployment, tmp_path):
    served = Durable(deployment.recommender(AdaptConfig(target="none")), tmp_path, every=50)
    sizes = []
    for number in range(200):
        served.observe([f"user {number % 10}"], ["item 1"])
        sizes.append(sum(file.stat().st_size for file in tmp_path.glob("journal-*")))
    each = sizes[10] - sizes[9] - len("user 0") - len("item 1")
    assert_stated(each, stated("each observation since the snapshot", 2))
    assert max(sizes) == sizes[48] and sizes[49] == sizes[199] == 0


def seconds_of_a_newcomer(n_users: int) -> float:
    """Seconds of observing a new user after half of the known users were seen again."""
    log = log_of(n_users, 10, 3)
    users = Users.of(log, names(n_users), Marks.blank(len(log.items)), n_users)
    for token in names(n_users // 2):
        users.append(token, 1)
    begin = time.process_time()
    for number in range(200):
        users.append(f"newcomer {number}", 1)
    return (time.process_time() - begin) / 200


def test_a_newcomer_takes_no_longer_among_many():
    few, many = (min(seconds_of_a_newcomer(count) for _ in range(3)) for count in (500, 100_000))
    assert many < 2.5 * few  # in a plain dict it takes four times as long
