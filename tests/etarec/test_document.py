"""Strict YAML: values keep their types, and a faulty file gives one message that names the place."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.config import UserError
from etarec.document import parse_yaml, read_yaml, to_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        (".5e-3", 5e-4),
        ("-1.", -1.0),
        ("+.5", 0.5),
        ("5", 5),
        ("010", 10),
        ("-3", -3),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("No", "No"),
        ("n", "n"),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0x10", "0x10"),
        ("e5", "e5"),
        (".", "."),
        ("'1e-3'", "1e-3"),
        ("[1, {a: b}]", [1, {"a": "b"}]),
    ],
)
def test_unquoted_values_follow_yaml_1_2(text, value):
    read = parse_yaml(text, "x")
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "text",
    ["!!seq 3", "!!seq {a: 1}", "!!map 3", "!!map [1]", "!!str {a: 1}", "!!str [a]", "!!int abc", "!!int [1]"]
    + ["!!float x", "!!bool maybe", "!!null x", "!!null {}", "!!set {a}", "!!binary YQ==", "!unknown 3"],
)
def test_a_tag_that_does_not_fit_its_value_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"^x: line 1, column 4: not valid YAML: .*tag"):
        parse_yaml(f"a: {text}", "x")


def test_a_tag_that_fits_is_followed() -> None:
    text = "{a: !!str 5, b: !!int '5', c: !!float 1, d: !!bool 'true', e: !!seq [1], f: !!map {g: 1}}"
    assert parse_yaml(text, "x") == {"a": "5", "b": 5, "c": 1.0, "d": True, "e": [1], "f": {"g": 1}}


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


@given(st.dictionaries(st.text(), documents, max_size=5))
def test_written_text_reads_back_as_the_same_data(document):
    assert parse_yaml(to_text(document), "x") == document


@pytest.mark.parametrize("text", ["1e-3", "1E5", "010", "on", "true", "~", "", ".inf", "a: b", "a #b", " a ", "é"])
def test_a_text_that_looks_like_another_type_stays_text(text):
    assert parse_yaml(to_text({text: [text]}), "x") == {text: [text]}


@given(st.text())
def test_any_text_gives_data_or_one_user_error(text):
    message = "FILE: "
    try:
        parse_yaml(text, "FILE")
    except UserError as error:
        message = str(error)
    assert message.startswith("FILE: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "given nothing, expected a mapping"),
        (b"# only a comment\n", "given nothing, expected a mapping"),
        (b"- a\n- b\n", 'given ["a", "b"], expected a mapping'),
        (b"text\n", 'given "text", expected a mapping'),
        (b"a: 1\nb: [1,\n", "line 3, column 1: not valid YAML"),
        (
            b"a:\n\tb: 1\n",
            "line 2, column 1: not valid YAML: found character '\\t' that cannot start any token (indent YAML",
        ),
        (b"a: b: c\n", "line 1, column 5: not valid YAML"),
        (
            b"a: {b: 1}\nc: 2\na: 3\n",
            "line 3, column 1: not valid YAML: duplicate key a, expected it once; first given in line 1",
        ),
        (b"a: {b: 1, c: 2, b: 3}\n", "line 1, column 17: not valid YAML: duplicate key b"),
        (b"a: 1\n---\nb: 2\n", "line 2, column 1: not valid YAML: but found another document"),
        (b"a: !!python/object/apply:os.system [ls]\n", "line 1, column 4: not valid YAML: could not determine"),
        (b"a: &x 1\nb: *x\n", "line 1, column 4: not valid YAML: given the anchor or alias x, expected its value"),
        (b"? [a]\n: 1\n", "line 1, column 3: not valid YAML: given a list or a mapping as a key"),
        (b"a: 1" + b"0" * 5000, "not valid YAML: Exceeds the limit"),
        (b"[" * 5000, "line 1, column 51: not valid YAML: nested too deeply, expected at most 50 levels"),
        (b"a: " + b"[" * 50 + b"]" * 50, "line 1, column 53: not valid YAML: nested too deeply"),
        (b'a: "\\ud800"', "not valid YAML: 'utf-8' codec can't encode"),
        (b"\x1f\x8b\x08\x00\xff", "expected a YAML file in UTF-8, given other bytes at offset 1"),
        (b"a: \xe9", "expected a YAML file in UTF-8, given other bytes at offset 3"),
        (b"a: \0", "not valid YAML: unacceptable character #x0000"),
        (b"#" * (2**20 + 1), "expected a YAML file, given more than 1 MiB"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_fault(tmp_path: Path, content, expected):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: {expected}")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"gone.yaml: cannot be read: no such file"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(UserError, match=r"cannot be read: is a directory"):
        read_yaml(tmp_path)


def test_byte_order_mark_is_ignored(tmp_path: Path):
    (tmp_path / "x.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": 1}
