"""Foreign files of every kind: any bytes, and good files with some damage, give data or one UserError."""

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etarec.document import parse_yaml, to_text
from search.spec import to_yaml
from search.spec.schema import editor_schema
from tests.fuzz import subjects
from tests.fuzz.damage import EXAMPLES, damaged
from tests.fuzz.subjects import SUBJECTS

_SCHEMA = editor_schema()
_EDITOR = jsonschema.Draft202012Validator(_SCHEMA)
_FIELDS = {key: sorted(_SCHEMA["$defs"]["AdaptConfig"]["properties"]) for key in ("adapt", "space")}
_SCALARS = st.sampled_from([None, True, 0, 1, 2, -1, 0.5, 1e-3, 1e300, "", "x", "weights", "loss", "a.b:C", "entropy"])
_KEYS = st.sampled_from(["low", "high", "step", "log", "choices", "when", "target", "criterion", "rows", "name"])
VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=8
)


@pytest.mark.parametrize("kind", SUBJECTS)
@EXAMPLES
@given(data=st.data())
def test_any_bytes(kind: str, data: st.DataObject) -> None:
    read, _ = SUBJECTS[kind]
    read(data.draw(st.binary(max_size=200)))


@pytest.mark.parametrize("kind", SUBJECTS)
@EXAMPLES
@given(data=st.data())
def test_a_damaged_file(kind: str, data: st.DataObject) -> None:
    read, files = SUBJECTS[kind]
    read(data.draw(st.sampled_from(files()).flatmap(damaged)))


@st.composite
def experiments(draw: st.DrawFn) -> bytes:
    """A good experiment in which one to three keys, known or not, have other values."""
    document = parse_yaml(subjects.specs()[0].decode(), "")
    for _ in range(draw(st.integers(1, 3))):
        section = draw(st.sampled_from(sorted(_SCHEMA["properties"])))
        if section in _FIELDS and draw(st.booleans()) and isinstance(document.get(section), dict):
            document[section][draw(st.sampled_from(_FIELDS[section]))] = draw(VALUES)
        else:
            document[section] = draw(VALUES)
    return to_text(document).encode()


@EXAMPLES
@given(experiments())
def test_an_experiment_of_any_values_gives_faults_or_a_spec_that_is_written_and_read_alike(content: bytes) -> None:
    spec = subjects.spec(content)
    if spec is not None:
        assert subjects.spec(to_yaml(spec).encode()) == spec
        assert list(_EDITOR.iter_errors(parse_yaml(content.decode(), ""))) == []
        assert list(_EDITOR.iter_errors(parse_yaml(to_yaml(spec), ""))) == []


@EXAMPLES
@given(st.integers(0, len(subjects.journals()[0])))
def test_a_torn_journal_holds_the_events_before_the_tear(end: int) -> None:
    content = subjects.journals()[0]
    torn, whole = (subjects.journal(content[:stop]) for stop in (end, content[:end].rfind(b"\n") + 1))
    assert torn is not None and whole is not None
    assert (torn.trials, torn.anchors, torn.settings) == (whole.trials, whole.anchors, whole.settings)


@EXAMPLES
@given(st.integers(1, len(subjects.journals()[0])))
def test_an_event_after_a_tear_is_read_behind_those_before_it(end: int) -> None:
    content = subjects.journals()[0]
    records = subjects.journal(content[:end])
    assert records is not None
    records.started(9, {"top_k": 2})
    expected = [*content[:end].split(b"\n")[:-1]]
    found = (subjects.folder() / "trials.jsonl").read_bytes().split(b"\n")[:-1]
    assert found[:-1] == expected and json.loads(found[-1])["number"] == 9
