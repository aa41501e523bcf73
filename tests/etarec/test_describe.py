"""`python -m etarec.describe`: what it prints, and that its block reads the log."""

import json
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from etarec import data, describe
from etarec.config import AdaptConfig, DataConfig
from etarec.document import parse_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
LOG = "user_id,item_id,rating,timestamp\n" + "".join(
    f"{user},{item},4.5,{1_292_198_400 + 10 * user + item}\n" for user in range(1, 9) for item in range(1, 8)
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    def _run(content: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "log.csv").write_text(content, newline="")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["describe", "log.csv", *arguments])
        status = describe.main()
        return status, *capsys.readouterr()

    return _run


def test_the_command_prints_what_was_understood(run, tmp_path: Path) -> None:
    status, out, err = run(LOG, "--set", "k_core=2", "split=leave_one_out")
    assert (status, err) == (0, "")
    assert out.partition("\n\n")[0].splitlines() == [
        "format      text in UTF-8, separator comma, names in the first line",
        "columns     user_id (integer), item_id (integer), rating (number), timestamp (time)",
        "row         1  1  4.5  1292198411",
        "row         1  2  4.5  1292198412",
        "row         1  3  4.5  1292198413",
        "guessed     user user_id, item item_id, timestamp timestamp "
        "(others by --set columns.user=NAME columns.item=NAME ...)",
        "read        timestamps: seconds since 1970",
        "log         56 interactions, 8 users, 7 items",
        "            largest user '1': 7 interactions, 12.5%",
        "            largest item '1': 8 interactions, 14.3%",
        "time        2010-12-13 00:00:11 to 2010-12-13 00:01:27",
        "k-core      2 leaves 56 interactions, 8 users, 7 items",
    ]
    block = parse_yaml(out.partition("\n\n")[2], "the block")["data"]
    columns = {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
    path = str(tmp_path / "log.csv")
    expected = {"path": path, "k_core": 2, "split": "leave_one_out", "columns": columns, "order": "time"}
    assert block == expected


def test_the_written_experiment_has_the_block_and_the_recommended_space(run, tmp_path: Path) -> None:
    status, out, _ = run(LOG, "--set", "k_core=2", "--write", "mine.yaml")
    assert status == 0 and "written     mine.yaml" in out
    written = parse_yaml((tmp_path / "mine.yaml").read_text(), "mine.yaml")
    recommended = parse_yaml((CONFIGS / "amazon_video_games.yaml").read_text(), "amazon_video_games.yaml")
    assert written["name"] == "mine"
    assert written["data"]["columns"] == {"user": "user_id", "item": "item_id", "timestamp": "timestamp"}
    assert recommended["space"]["top_k"]["high"] == 500
    recommended["space"]["top_k"]["high"] = 7  # the catalogue
    assert written["space"] == recommended["space"]
    ours, theirs = (AdaptConfig(**each["adapt"]) for each in (written, recommended))
    assert ours == theirs
    status, _, err = run(LOG, "--set", "k_core=2", "--write", "mine.yaml")
    assert status == 2 and "mine.yaml exists already" in err


def test_settings_reach_the_block_and_what_they_leave_out_is_said(run) -> None:
    text = LOG.partition("\n")[2].replace("1,1,4.5", "1,1,3") + "NA,1,5,1292198400\n" * 2
    keys = ["columns.user=1", "columns.item=2", "columns.timestamp=4", "at_least.3=4", "data.drop=[duplicates]"]
    status, out, _ = run(text, "--set", *keys, "k_core=99")
    assert status == 0
    assert "dropped     1 of 58 rows (data.where and data.at_least)" in out
    assert "dropped     1 of 57 rows (data.drop: duplicates)" in out
    assert "k-core      99 interactions per user and item (k_core) leave nothing; --set k_core=0 keeps all" in out
    assert "warning: 2 of 57 interactions (3.5%) have the user 'NA'" in out
    block = parse_yaml(out.rpartition("\n\n")[2], "the block")["data"]
    assert block["at_least"] == {"3": 4} and block["drop"] == ["duplicates"]
    assert block["columns"] == {"user": 1, "item": 2, "timestamp": 4}
    log = data.load(TypeAdapter(DataConfig).validate_json(json.dumps(block | {"k_core": 0})))
    assert log.n_interactions == 56


@pytest.mark.parametrize(("columns", "time"), [("ordered", "ordered"), ("ordered,paid", "none"), ("ordered,ts", "ts")])
def test_the_only_column_of_dates_is_the_time_where_no_name_tells(run, columns: str, time: str) -> None:
    dates = ["2023-01-0{}"] * (columns.count(",") + 1)
    rows = [f"{n},c{n % 2},A-{n % 3},{','.join(dates)}\n".replace("{}", str(n)) for n in range(1, 10)]
    _, out, _ = run(f"order_id,client,article,{columns}\n" + "".join(rows), "--set", "k_core=0")
    assert f"guessed     user client, item article, timestamp {time} (others by" in out


def test_columns_without_names_are_guessed_by_their_values(run) -> None:
    text = LOG.partition("\n")[2].replace(",4.5,", ",4.5,x,")
    _, out, _ = run(text)
    assert "guessed     user 1, item 2, timestamp 5 (others by --set columns.user=1 " in out
    assert "one user a line: columns.user=1 columns.item=2- columns.timestamp=null)" in out


def test_lines_of_equally_many_items_are_read_by_the_advice_for_one_user_a_line(run) -> None:
    text = "".join(f"{user} 1 2 3 4 5 6 7\n" for user in range(1, 9))
    _, out, _ = run(text)
    assert "8 interactions, 8 users, 1 items" in out  # a table of that shape looks the same
    advice = out.partition("one user a line: ")[2].partition(")")[0]
    status, out, _ = run(text, "--set", *advice.split())
    assert status == 0 and "56 interactions, 8 users, 7 items" in out


def test_one_user_a_line_is_guessed(run) -> None:
    status, out, _ = run("".join(f"{user} " + " ".join(map(str, range(user + 3))) + "\n" for user in range(9)))
    assert status == 0
    assert parse_yaml(out.rpartition("\n\n")[2], "the block")["data"]["columns"] == {
        "user": 1,
        "item": "2-",
        "timestamp": None,
    }


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            "who,what\na,1.5\nb,2.5\n",
            [],
            "neither names nor content tell which columns are users and items; give them, for inst",
        ),
        (
            "basket,person,thing,bought_at\n0.5,a,x,2026-01-02\n0.5,b,y,2026-01-03\n",
            [],
            "for instance --set columns.user=person columns.item=thing columns.timestamp=bought_at; the columns are",
        ),
        (LOG, ["--set", "colums.user=1"], "--set colums.user=1: colums: unknown key; did you mean columns?"),
        (LOG, ["--set", "k_core=-1"], "--set k_core: given -1, expected an integer at least 0"),
        (LOG, ["--set", "drop=[all]"], '--set drop[0]: given "all", expected one of missing_time, missing_ids, dupl'),
        (
            LOG,
            ["--set", "where.event.x=1"],
            "--set where.event.x=1: where.event has no keys, expected where.event=VALUE",
        ),
        ("", [], "log.csv: the file is empty"),
    ],
)
def test_a_users_error_ends_with_a_message(run, content: str, arguments: list[str], message: str) -> None:
    status, _, err = run(content, *arguments)
    assert status == 2
    assert err.startswith("error: ") and message in err


def test_an_address_with_a_password_is_refused_and_not_shown(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["describe", "https://ada:hunter2@127.0.0.1:1/log.csv"])
    assert describe.main() == 2
    message = capsys.readouterr().err
    assert message.startswith("error: path: given an address with a password or token") and "hunter" not in message


@pytest.mark.parametrize("content", ["(\xb5/\xfd", "PAR1", "PK\x03\x04", "\x1f\x8b\x08"])
def test_a_damaged_packed_file_gives_one_message(run, content: str) -> None:
    status, out, err = run(content)
    assert (status, out) == (2, "") and err.startswith("error: ") and "log.csv" in err and "Traceback" not in err
