"""Keys and values of a document in words, read from its JSON schema."""

from etarec.document_schema import Schema, dotted

SCHEMA = Schema(
    {
        "properties": {
            "search": {"$ref": "#/$defs/Search"},
            "space": {"type": "object", "additionalProperties": {"anyOf": [{"type": "number"}, {"type": "null"}]}},
        },
        "$defs": {
            "Search": {
                "type": "object",
                "properties": {
                    "trials": {"type": "integer", "minimum": 1},
                    "sampler": {"enum": ["auto", "random"]},
                    "share": {"anyOf": [{"type": "integer"}, {"type": "number", "minimum": 0, "exclusiveMaximum": 1}]},
                },
            }
        },
    }
)


def test_a_location_is_written_with_dots_and_brackets() -> None:
    assert dotted(("search", "objectives", 0, "name")) == "search.objectives[0].name"


def test_a_value_is_expected_in_words() -> None:
    expected = {name: SCHEMA.expected(("search", name)) for name in SCHEMA.keys(("search",))}
    assert expected["trials"] == "an integer at least 1"
    assert expected["sampler"] == "one of auto, random"
    assert expected["share"] == "an integer or a number from 0 to below 1"
    assert SCHEMA.expected(("space", "any")) == "a number or null"


def test_an_unknown_key_is_met_with_the_nearest_known_one() -> None:
    assert SCHEMA.unknown(("search", "trails")) == (
        "unknown key; did you mean trials? (known here: trials, sampler, share)"
    )
    assert SCHEMA.unknown(("sampler",)).startswith("unknown key; did you mean search.sampler?")


def test_a_location_is_known_up_to_its_last_key_that_exists() -> None:
    assert SCHEMA.known_part(("search", "trials", "int")) == ("search", "trials")
    assert SCHEMA.is_open(("space",)) and not SCHEMA.is_open(("search",))
