"""A text file as whole lines of UTF-8 with a separator of one character, whatever its encoding and separator are."""

import codecs
import io
import re
from collections.abc import Callable, Iterator

from etarec.config import UserError
from etarec.readers.dialect import BLANK, Dialect
from etarec.readers.source import Source, Unpacked

UNIT = "\x1f"  # ASCII's unit separator stands for a separator that is not one character
MAX_LINE_BYTES = 2**22
_CHUNK_BYTES = 2**20
_LONG_LINE = "expected lines that end with LF, CR LF or CR"
_ANY_BYTES = "; data.encoding: latin-1 reads any bytes"
_PLAIN_ENCODINGS = {"utf-8", "utf-8-sig", "utf8", "ascii", "us-ascii"}


def as_is(dialect: Dialect) -> bool:
    """Whether a parser of UTF-8 with separators of one character can read the file as it is."""
    plain = dialect.encoding.lower() in _PLAIN_ENCODINGS and dialect.line_end == b"\n"
    return plain and unit(dialect) == dialect.separator


def unit(dialect: Dialect) -> str:
    """The separator of one character between values in `chunks`."""
    return dialect.separator if len(dialect.separator) == 1 and dialect.separator != BLANK else UNIT


def chunks(source: Source, dialect: Dialect, cure: str = _ANY_BYTES) -> Iterator[bytes]:
    """The file in parts of whole lines, in UTF-8, with `unit` between values. cure: what to do about other bytes.

    Raises UserError for a line of more than 4 MiB and for bytes that are not of the file's encoding.
    """
    rewrite = _rewriter(dialect)
    decoder = codecs.getincrementaldecoder(dialect.encoding)()
    rest = b""
    with source.open() as file:
        while content := file.read(_CHUNK_BYTES):
            text = rest + _decoded(decoder, content, source, cure)
            end = text.rfind(dialect.line_end) + 1
            rest = text[end:]
            if len(rest) > MAX_LINE_BYTES:
                raise UserError(f"{source.name}: a line is longer than {MAX_LINE_BYTES >> 20} MiB; {_LONG_LINE}")
            if end:
                yield rewrite(text[:end])
    rest += _decoded(decoder, b"", source, cure, final=True)
    if rest:
        yield rewrite(rest)


class Lines(io.RawIOBase):
    """The bytes of `chunks` as a file."""

    def __init__(self, parts: Iterator[bytes]):
        self._parts, self._ready = parts, b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._ready = part
        end = len(self._ready) if size < 0 else size
        content, self._ready = self._ready[:end], self._ready[end:]
        return content


def stream(source: Source, dialect: Dialect) -> Unpacked | Lines:
    """The file's bytes for a parser of UTF-8 with separators of one character."""
    return source.open() if as_is(dialect) else Lines(chunks(source, dialect))


def _decoded(
    decoder: codecs.IncrementalDecoder, content: bytes, source: Source, cure: str, final: bool = False
) -> bytes:
    try:
        return decoder.decode(content, final).encode()
    except UnicodeError as error:
        raise UserError(
            f"{source.name}: the text is not in the encoding of its beginning: {error}; expected one encoding{cure}"
        ) from error


def _rewriter(dialect: Dialect) -> Callable[[bytes], bytes]:
    rewrite = _separator_rewriter(dialect)
    return rewrite if dialect.line_end == b"\n" else lambda text: rewrite(text.replace(b"\r", b"\n"))


def _separator_rewriter(dialect: Dialect) -> Callable[[bytes], bytes]:
    if unit(dialect) == dialect.separator:
        return lambda text: text
    if dialect.separator == BLANK:
        edges, blanks = re.compile(rb"^[ \t]+|[ \t]+(?=\r?$)", re.MULTILINE), re.compile(rb"[ \t]+")
        return lambda text: blanks.sub(UNIT.encode(), edges.sub(b"", text))
    separator = dialect.separator.encode()
    return lambda text: text.replace(separator, UNIT.encode())
