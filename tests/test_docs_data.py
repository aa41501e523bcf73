"""The blocks of docs/data.md read made-up files of the same layout as the public logs."""

import ast
import gzip
import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from etarec import data, describe
from etarec.config import DataConfig
from etarec.document import parse_yaml

PAGE = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
USERS, ITEMS = 8, 7  # everybody meets every item once


def sections() -> Iterator[dict[str, Any]]:
    """The `data` of each block of the page."""
    for block in re.findall(r"(?:^    .*\n)+", PAGE, flags=re.M):
        if (text := textwrap.dedent(block)).startswith("data:"):
            yield parse_yaml(text, "docs/data.md")["data"]


SECTIONS = {section["path"]: section for section in sections()}


def rows(line: Callable[[int, int, int], str], first: str = "") -> str:
    """A line for each user, item and time, in seconds from 2010-12-13 on."""
    times = range(1_292_198_400, 1_292_198_400 + USERS * ITEMS)
    pairs = [(user, item) for user in range(1, USERS + 1) for item in range(1, ITEMS + 1)]
    return first + "".join(line(user, item, time) + "\n" for (user, item), time in zip(pairs, times, strict=True))


def iso(time: int, end: str = "Z") -> str:
    return str(np.datetime64(time, "s")) + end


def literal(line: str) -> str:
    """The output of the page's command for a line of Python literals."""
    return json.dumps(ast.literal_eval(line))


def sessions() -> str:
    def events(user: int) -> list[dict[str, object]]:
        clicks = [{"aid": item, "ts": 1_659_304_800_000 + item, "type": "clicks"} for item in range(1, ITEMS + 1)]
        return [*clicks, {"aid": 99, "ts": 1_659_304_900_000, "type": "orders"}]

    return "".join(json.dumps({"session": user, "events": events(user)}) + "\n" for user in range(1, USERS + 1))


def behaviors() -> str:
    history = " ".join(f"N{item}" for item in range(1, ITEMS + 1))
    twice = [(user, when) for user in range(1, USERS + 1) for when in ("AM", "PM")]
    lines = [
        f"{n}\tU{u}\t11/11/2019 9:05:58 {when}\t{history}\tN9-1 N8-0" for n, (u, when) in enumerate(twice, start=1)
    ]
    return "\n".join([*lines, "99\tU99\t11/15/2019 8:55:22 AM\t\tN9-0"]) + "\n"


FILES = {
    "u.data": rows(lambda u, i, t: f"{u}\t{i}\t3\t{t}"),
    "ratings.dat": rows(lambda u, i, t: f"{u}::{i}::{5 - (i == 9)}::{t}") + "1::9::3::978300760\n",
    "ratings.csv": rows(lambda u, i, t: f"{u},{i},3.5,{t}", "userId,movieId,rating,timestamp\n"),
    "reviews_Beauty_5.json.gz": rows(
        lambda u, i, t: json.dumps(
            {"reviewerID": f"A{u}", "asin": f"B{i}", "helpful": [2, 3], "reviewText": 'A "fine" one', "overall": 5.0}
            | {"unixReviewTime": t, "reviewTime": "09 13, 2009"}
        )
    ),
    "All_Beauty.jsonl.gz": rows(
        lambda u, i, t: json.dumps(
            {"rating": 5.0, "title": "", "images": [], "asin": f"B{i}x", "parent_asin": f"B{i}", "user_id": f"A{u}"}
            | {"timestamp": 1000 * t, "helpful_vote": 0, "verified_purchase": True}
        )
    ),
    "ratings_Beauty.csv": rows(lambda u, i, t: f"A{u},000{i},5.0,{t}"),
    "events.csv": rows(lambda u, i, t: f"{t}000,{u},view,{i},", "timestamp,visitorid,event,itemid,transactionid\n")
    + "1433221332117,1,addtocart,99,\n",
    "yoochoose-clicks.dat": rows(lambda u, i, t: f"{u},{iso(t, '.277Z')},2145{i},0"),
    "train-item-views.csv": rows(
        lambda u, i, t: f"{u};NA;{i};{i * 1000 + u};2016-05-09", "sessionId;userId;itemId;timeframe;eventdate\n"
    ),
    "loc-gowalla_totalCheckins.txt.gz": rows(lambda u, i, t: f"{u}\t{iso(t)}\t30.23\t-97.79\t228{i}"),
    "steam-200k.csv": rows(
        lambda u, i, t: f'1516{u},"Game, the {i}nd",purchase,1.0,0\n1516{u},"Game, the {i}nd",play,7.5,0'
    ),
    "steam_reviews.jsonl": rows(
        lambda u, i, t: literal(
            f"{{u'username': u'B{u}', u'product_id': u'{i}', u'date': u'2017-12-1{i}', u'early': False}}"
        )
    ),
    "behaviors.tsv": behaviors(),
    "otto-recsys-train.jsonl": sessions(),
    "userid-timestamp-artid-artname-traid-traname.tsv": rows(
        lambda u, i, t: (
            f'user_00000{u}\t{iso(t)}\tart-{i}\t"Heroes\t\tSong {i}\nuser_00000{u}\t{iso(t)}\t\t"Heroes"\t\tX'
        )
    ),
}


def test_every_block_of_the_page_is_tested() -> None:
    assert SECTIONS.keys() == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_the_block_reads_its_log(tmp_path: Path, name: str) -> None:
    content = FILES[name].encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    section = SECTIONS[name] | {"path": str(tmp_path / name), "k_core": 2}
    config: DataConfig = TypeAdapter(DataConfig).validate_json(json.dumps(section))
    loaded = data.load(replace(config))
    assert (loaded.n_users, loaded.n_items - 1, loaded.n_interactions) == (USERS, ITEMS, USERS * ITEMS)
    histories = loaded.items.reshape(USERS, ITEMS)
    assert (histories == histories[0]).all()  # everybody met the items in the same order
    assert [token[-3:] for token in loaded.vocabulary.to_pylist()] == sorted(
        token[-3:] for token in loaded.vocabulary.to_pylist()
    )
    assert loaded.reading.doubts == ()


@pytest.mark.parametrize(
    "name", ["ratings.csv", "events.csv", "All_Beauty.jsonl.gz", "otto-recsys-train.jsonl", "u.data"]
)
def test_the_command_guesses_the_columns_of_well_known_logs(tmp_path: Path, name: str) -> None:
    content = FILES[name].encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    printed = "\n".join(describe.report({"path": str(tmp_path / name), "k_core": 2}))
    guessed = parse_yaml(printed.rpartition("\n\n")[2], "the block")["data"]
    expected = SECTIONS[name]["columns"]
    if name == "All_Beauty.jsonl.gz":
        expected = expected | {"item": guessed["columns"]["item"]}
        assert guessed["columns"]["item"] in ("asin", "parent_asin")
    assert guessed["columns"] == expected
