"""Users and items as integer codes; ids are text, and never read as numbers."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import UserError
from etarec.readers.place import MISSING_WORDS, Bools, Places

Int32s = npt.NDArray[np.int32]

_NOBODY = ("unknown", "missing")  # ids that look missing besides MISSING_WORDS
# Above these shares an id is no plausible user or item; in a log of few ids, ten times their mean share, or a half.
_PLAUSIBLE_SHARE = {"user": 0.05, "item": 0.2}
_A = {"user": "a user", "item": "an item"}
_CURE = "; `data.drop: [missing_ids]` drops such rows"


@dataclass(frozen=True, eq=False)
class Ids:
    """N ids as codes from 0 in the order of their tokens."""

    codes: Int32s  # [N]; -1 where the id is missing
    tokens: pa.LargeStringArray

    def missing_words(self) -> list[int]:
        """The codes of tokens with which programs write a missing value."""
        words = pc.utf8_lower(pc.utf8_trim_whitespace(self.tokens))
        return np.flatnonzero(
            pc.is_in(words, pa.array((*MISSING_WORDS, *_NOBODY), words.type)).to_numpy(False)
        ).tolist()

    def missing(self) -> Bools:
        """Whether each id is missing, or a word for that, bool [N]."""
        words = self.missing_words()
        return np.isin(self.codes, [-1, *words])

    def of(self, keep: Bools) -> "Ids":
        """The ids for which `keep`, bool [N], is true."""
        return Ids(self.codes[keep], self.tokens)


def encode(column: pa.ChunkedArray, what: str, places: Places) -> Ids:
    """The ids of a column. `what`, user or item, is the word for them in messages.

    Raises UserError if the ids are neither text nor integers, or if one is not UTF-8.
    """
    try:
        array = (column if pa.types.is_dictionary(column.type) else column.dictionary_encode()).combine_chunks()
        array = array if isinstance(array, pa.DictionaryArray) else pa.concat_arrays(array.chunks)
        words = _words(array.dictionary)
        _check_utf8(words, array, what, places)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        raise UserError(
            f"{places.source}: the {what} column is of type {kind}; expected text or integer ids"
        ) from error
    distinct = pc.unique(words).drop_null()
    tokens = distinct.take(pc.array_sort_indices(distinct))
    if len(tokens) and not tokens[0].as_py():
        tokens = tokens[1:]
    codes = pc.fill_null(pc.index_in(words, value_set=tokens), -1).to_numpy(False).astype(np.int32)
    numbers = array.indices
    if numbers.null_count:
        numbers, codes = pc.fill_null(numbers, len(codes)), np.append(codes, np.int32(-1))
    return Ids(codes[numbers.to_numpy(False)] if len(codes) else np.full(len(array), -1, np.int32), tokens)


def check_complete(ids: Ids, what: str, places: Places) -> None:
    """Raise UserError, which names the row, if an id is missing."""
    row = int(np.argmin(ids.codes))
    if ids.codes[row] < 0:
        places.fail(row, f"has no {what}; expected an id in every row{_CURE}")


def doubts(ids: Ids, what: str) -> list[str]:
    """Warnings about ids that look wrong."""
    return [*_missing_doubts(ids, what), *_line_end_doubts(ids, what), *_share_doubts(ids, what)]


def _missing_doubts(ids: Ids, what: str) -> list[str]:
    """Warnings about ids that look missing."""
    found = []
    for code in ids.missing_words():
        count = int(np.count_nonzero(ids.codes == code))
        if not count:
            continue
        word = ids.tokens[code].as_py()
        found.append(
            f"{count:,} of {len(ids.codes):,} interactions ({count / len(ids.codes):.1%}) have the {what} {word!r}, "
            f"which looks like a missing id and counts as one {what}{_CURE}"
        )
    return found


def _line_end_doubts(ids: Ids, what: str) -> list[str]:
    """A warning if ids hold ends of lines, as they do behind a quote that nothing closes."""
    broken = pc.match_substring(ids.tokens, "\n")
    count = pc.sum(broken).as_py() or 0
    if not count:
        return []
    first = ids.tokens[pc.index(broken, pa.scalar(True)).as_py()].as_py()
    held = f"1 id of the column {what} holds" if count == 1 else f"{count:,} ids of the column {what} hold"
    return [
        f"{held} an end of line, such as {first[:40]!r}; a quote that nothing closes joins lines, so look at the file "
        "there"
    ]


def _share_doubts(ids: Ids, what: str) -> list[str]:
    """A warning if one id has a share of the interactions that no user, or no item, of a real log has."""
    code, count = _most(ids)
    distinct = int(np.count_nonzero(np.bincount(ids.codes)))
    limit = max(_PLAUSIBLE_SHARE[what], min(0.5, 10 / distinct))
    if code in ids.missing_words() or count <= limit * len(ids.codes) or distinct < 3:
        return []
    return [
        f"the {what} {_short(ids, code)} has {count / len(ids.codes):.1%} of all interactions, which is implausible "
        f"for one {what} of {distinct:,}; if it stands for a missing id, remove its rows"
    ]


def largest(ids: Ids, what: str) -> str:
    """The id with most interactions, in words."""
    code, count = _most(ids)
    return (
        f"largest {what} {_short(ids, code)}: {count:,} interaction{'s' * (count != 1)}, {count / len(ids.codes):.1%}"
    )


def _most(ids: Ids) -> tuple[int, int]:
    counts = np.bincount(ids.codes)
    return int(counts.argmax()), int(counts.max())


def _short(ids: Ids, code: int) -> str:
    return repr(ids.tokens[code].as_py()[:40])


def _words(ids: pa.Array) -> pa.Array:
    """Ids as text; null where a number is NaN, with which pandas writes a missing one."""
    words = ids.cast(pa.large_string())
    return pc.if_else(pc.is_nan(ids), None, words) if pa.types.is_floating(ids.type) else words


def _check_utf8(words: pa.Array, array: pa.DictionaryArray, what: str, places: Places) -> None:
    try:
        words.validate(full=True)
    except pa.ArrowInvalid:
        number = next(n for n in range(len(words)) if not _is_utf8(words[n : n + 1]))
        row = pc.index(array.indices, pa.scalar(number, array.indices.type)).as_py()
        places.fail(row, f"has {_A[what]} that is not UTF-8 text; expected ids as UTF-8 text or integers")


def _is_utf8(word: pa.Array) -> bool:
    try:
        pa.concat_arrays([word]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True
