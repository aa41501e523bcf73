"""Rows kept by the values of a column: `data.where` and `data.at_least`."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etarec.config import DataConfig, UserError
from etarec.readers.columns import AT_LEAST, WHERE
from etarec.readers.place import Bools, Places, listed


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
    wanted = {_text(value) for value in values}
    numbers = {number for text in wanted if (number := _number(text)) is not None}
    chosen = np.array([word is not None and (word in wanted or _number(word) in numbers) for word in words] + [False])
    if not chosen.any():
        have = listed([word for word in words if word is not None], most=10)
        raise UserError(
            f"{places.source}: no row has one of {listed(sorted(wanted))} in the column {name!r} (data.where); it has "
            f"{have}"
        )
    return chosen[codes]


def _reaches(column: pa.ChunkedArray, name: str, least: float, places: Places) -> Bools:
    """Whether each row's number is at least `least`; a row without one is not kept."""
    codes, words = _coded(column)
    numbers = [None if word is None or word == "" else _number(word) for word in words]
    bad = next((n for n, word in enumerate(words) if word and numbers[n] is None), None)
    if bad is not None:
        row = int(np.argmax(codes == bad))
        places.fail(row, f"has {words[bad]!r} in the column {name!r}; expected a number (data.at_least)")
    return np.array([number is not None and number >= least for number in numbers] + [False])[codes]


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str | None]]:
    """Codes [rows] and the texts that they stand for; the code -1 stands for no value."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    array = coded.combine_chunks()
    array = array if isinstance(array, pa.DictionaryArray) else pa.concat_arrays(array.chunks)
    words = array.dictionary.cast(pa.string()).to_pylist()
    return pc.fill_null(array.indices, -1).to_numpy(False), words


def _text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
