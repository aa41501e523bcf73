"""A search's files read back: a damaged one is a message that says what was found, what was expected and what to do."""

from pathlib import Path

import pytest

from etarec.config import UserError
from search.records.result_files import RESTORE, check_folder, mapping_of, text_of


def test_a_mapping_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("data: {path: x}\nspace:\n", encoding="utf-8")
    (tmp_path / "a.json").write_text('{"data": {"path": "x"}, "space": null}', encoding="utf-8")
    for name in ("a.yaml", "a.json"):
        assert mapping_of(tmp_path / name, {"data", "space", "missing"}) == {"data": {"path": "x"}, "space": None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", b"a: [1, 2", "cannot be parsed (while parsing a flow sequence"),
        ("a.json", b'{"a": 1', "cannot be parsed (Expecting ',' delimiter: line 1 column 8 (char 7)), expected a map"),
        ("a.json", b"[]", "given [], expected a mapping of keys to values"),
        ("a.yaml", b"", "given null, expected a mapping of keys to values"),
        ("a.yaml", b"data: x\n", 'data: given "x", expected a mapping of keys to values'),
        ("a.yaml", b"ab\xff", "not UTF-8 at byte 2, expected a text file"),
        ("a.yaml", None, "cannot be read (No such file or directory), expected a file that each search writes"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as refused:
        mapping_of(file, {"data"})
    text = str(refused.value)
    assert text.startswith(f"{file}: {message}") and text.endswith(f"; {RESTORE}") and "\n" not in text


def test_a_text_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("ä,b\n1,2\n".encode())
    assert text_of(tmp_path / "a.csv") == "ä,b\n1,2\n"


def test_a_folder_has_to_exist(tmp_path: Path) -> None:
    check_folder(tmp_path)
    with pytest.raises(UserError, match="gone: no such folder; expected the folder of a search, such as runs/demo"):
        check_folder(tmp_path / "gone")
