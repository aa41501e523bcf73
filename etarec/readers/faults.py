"""The errors of the libraries that read a log, as one message."""

import csv
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from etarec.config import UserError
from etarec.readers.source import Source

_READ_ERRORS = (
    pa.ArrowException,
    OSError,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    UnicodeError,
    csv.Error,
)


@contextmanager
def readable(path: str, kind: str) -> Iterator[None]:
    """Raise UserError, which names the log at `path` and its kind, where the block cannot read it."""
    expected = (Exception,) if "://" in path else _READ_ERRORS  # fsspec's packages raise errors of their own
    try:
        yield
    except UserError:
        raise
    except expected as error:
        reason = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{Source(path).name}: cannot be read as {kind}: {reason}") from error
