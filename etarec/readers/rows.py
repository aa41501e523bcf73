"""Rows kept by the values of a column: `data.where` and `data.at_least`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import DataConfig, UserError
from etarec.readers.columns import AT_LEAST, WHERE
from etarec.readers.place import MISSING_WORDS, Bools, Places, listed

_NUMBER = r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def kept(columns: Mapping[str, pa.ChunkedArray], config: DataConfig, places: Places) -> Bools | None:
    """Whether to keep each row, bool [rows]; None where no filter is set.

    Raises UserError where a filter keeps no row, or asks for numbers in a column of words.
    """
    masks = [_has(columns[WHERE + name], name, values, places) for name, values in config.where.items()]
    masks += [_reaches(columns[AT_LEAST + name], name, least, places) for name, least in config.at_least.items()]
    if not masks:
        return None
    keep: Bools = np.logical_and.reduce(masks)
    if not keep.any():
        raise UserError(f"{places.source}: data.where and data.at_least together keep none of the {len(keep):,} rows")
    return keep


def _has(column: pa.ChunkedArray, name: str, values: tuple[str | int | float | bool, ...], places: Places) -> Bools:
    """Whether each row has one of the values, which are compared as text, and as numbers where both are."""
    codes, words = _coded(column)
    wanted = pa.array(sorted({_text(value) for value in values}), words.type)
    numbers = _numbers(words)
    same_number = pc.and_(pc.is_in(numbers, _numbers(wanted).drop_null()), pc.is_valid(numbers))
    chosen = pc.fill_null(pc.or_(pc.is_in(words, wanted), same_number), False).to_numpy(False)
    if not chosen.any():
        have = listed(words.drop_null()[:100].to_pylist(), most=10)
        raise UserError(
            f"{places.source}: no row has one of {listed(wanted.to_pylist())} in the column {name!r} (data.where); it "
            f"has {have}"
        )
    return np.append(chosen, False)[codes]


def _reaches(column: pa.ChunkedArray, name: str, least: float, places: Places) -> Bools:
    """Whether each row's number is at least `least`; a row without one is not kept."""
    codes, words = _coded(column)
    numbers = _numbers(words)
    missing = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(words)), pa.array(MISSING_WORDS, words.type))
    bad = pc.index(pc.or_(pc.is_valid(numbers), pc.or_(missing, pc.is_null(words))), pa.scalar(False)).as_py()
    if bad >= 0 and bad in codes:
        row = int(np.argmax(codes == bad))
        places.fail(row, f"has {words[bad].as_py()!r} in the column {name!r}; expected a number (data.at_least)")
    return np.append(pc.fill_null(pc.greater_equal(numbers, least), False).to_numpy(False), False)[codes]


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, pa.LargeStringArray]:
    """Codes [rows] and the texts that they stand for; the code -1 stands for no value."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    array = coded.combine_chunks()
    array = array if isinstance(array, pa.DictionaryArray) else pa.concat_arrays(array.chunks)
    return pc.fill_null(array.indices, -1).to_numpy(False), array.dictionary.cast(pa.large_string())


def _numbers(words: pa.LargeStringArray) -> pa.DoubleArray:
    """The numbers that texts hold; null where one holds none."""
    trimmed = pc.utf8_trim_whitespace(words)
    return pc.if_else(pc.match_substring_regex(trimmed, _NUMBER), trimmed, None).cast(pa.float64())


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
