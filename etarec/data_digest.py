"""The digest of a data set and its split, by which caches and resumed searches know it."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_LONG_TOKEN, _HASHED_AT_ONCE = 256, 2**14  # characters; tokens


def digest(
    arrays: dict[str, npt.NDArray[Any]], vocabulary: pa.LargeStringArray, token_width: int, max_length: int
) -> str:
    hashed = hashlib.sha256(f"max_length {max_length}".encode())
    for name, array in sorted(arrays.items()):
        hashed.update(f" {name} {array.dtype.str} {array.shape} ".encode())
        hashed.update(np.ascontiguousarray(array).view(np.uint8).data)
    for part in _token_bytes(vocabulary, token_width):
        hashed.update(part)
    return hashed.hexdigest()


def _token_bytes(tokens: pa.LargeStringArray, width: int) -> Iterator[bytes]:
    """The hashed bytes of tokens: numpy's text of one width, made in parts; for long tokens, lengths and UTF-8.

    The text of one width would take items times the longest token.
    """
    width = max(width, pc.max(pc.utf8_length(tokens)).as_py() or 0, 1)
    if width > _LONG_TOKEN:
        yield f" vocabulary utf-8 ({len(tokens)},) ".encode()
        for start in range(0, len(tokens), _HASHED_AT_ONCE):
            part = tokens[start : start + _HASHED_AT_ONCE].cast(pa.large_binary())
            yield pc.binary_length(part).to_numpy().astype(np.int64).tobytes() + b"".join(part.to_pylist())
        return
    yield f" vocabulary {np.dtype((np.str_, width)).str} ({len(tokens)},) ".encode()
    for start in range(0, len(tokens), _HASHED_AT_ONCE):
        yield np.array(tokens[start : start + _HASHED_AT_ONCE].to_pylist(), (np.str_, width)).tobytes()
