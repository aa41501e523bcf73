"""The dialect of a text file, told by its first lines: encoding, ends of lines, separator, quotes and header."""

import codecs
import csv
import io
import re
from collections import Counter
from dataclasses import dataclass

from etarec.config import DataConfig, UserError
from etarec.readers import columns
from etarec.readers.columns import Wanted
from etarec.readers.place import NO_ROWS, listed

BLANK = " "  # as a separator: a run of blanks and tabs
SEPARATORS = ("::", "\t", ",", ";", "|")  # of equally good ones the first wins
_QUOTED = (",", ";", "|")  # separators of files in which quotes surround a value
_NAMES = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar", BLANK: "blanks", "::": "'::'"}
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAX_RECORDS = 200
_TOO_LONG = "longer than 256 KiB; expected lines that end with LF, CR LF or CR, and a shorter one at the beginning"
_CONSISTENT, _MOST = 0.9, 0.5  # shares of the first lines that a separator must cut into equally many values
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_WORD = re.compile(r"^[^\d]*[^\W\d][^\d]*$")  # letters and no digits: no date
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?|\d{1,2}[/.]\d{1,2}[/.]\d{4}.*|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d .*")
_COMMON_NAMES = re.compile(
    r"(user|item|session|visitor|product|movie|artist|track|time|rating|event|date)s?[ _-]?(id)?", re.I
)


@dataclass(frozen=True)
class Dialect:
    """The dialect of a text file."""

    encoding: str
    line_end: bytes
    separator: str
    quoted: bool  # whether quotes surround values
    header: bool  # whether the first line holds the columns' names
    records: tuple[tuple[str, ...], ...]  # the values of the first lines

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, or the first line's values where it holds no names."""
        return self.records[0]

    def described(self) -> str:
        """The dialect in words."""
        separator = _NAMES.get(self.separator, repr(self.separator))
        first = "names in the first line" if self.header else "no names in the first line"
        quotes = ", quoted values" if self.quoted and self.separator not in _QUOTED else ""
        return f"text in {self.encoding.upper().removesuffix('-SIG')}, separator {separator}{quotes}, {first}"

    def doubts(self, wanted: Wanted) -> list[str]:
        """Warnings about possible misreadings: a guessed encoding, an interaction that was taken for names."""
        doubts = []
        if self.encoding == "latin-1":
            doubts.append("the text is not UTF-8 and was read as Latin-1; data.encoding names another encoding")
        names = [name for name in wanted.values() if isinstance(name, str)]
        if self.header and names and all(_NUMBER.fullmatch(name.split(":")[0]) for name in names):
            doubts.append(
                f"the first line ({listed(list(self.names))}) was taken for names but looks like an interaction; "
                "data.columns with numbers, such as user: 1, read a file without names"
            )
        return doubts


def dialect(sample: bytes, config: DataConfig, wanted: Wanted, source: str, whole: bool) -> Dialect:
    """The dialect of a file that begins with the bytes `sample`; `whole`: it ends with them.

    Raises UserError if the sample is not text, or has no separator.
    """
    encoding = config.encoding or _encoding(sample)
    line_end, lines = _lines(_text(sample, encoding, source), whole)
    if not lines[0].strip():
        raise UserError(f"{source}: the first line is empty, expected the names of the columns or an interaction")
    separator = "\t" if config.separator == "\\t" else config.separator or _separator(lines, wanted)
    if separator is None:
        first = " and ".join(repr(line[:60]) for line in lines[:2])
        raise UserError(
            f"{source}: no separator cuts the first lines into equally many values, such as {first}; "
            "expected data.separator, such as ',', '\\t', ';', '::', '|' or ' ' for runs of blanks"
        )
    quoted = separator in _QUOTED or (len(separator) == 1 and separator != BLANK and _wrapped(lines, separator))
    records = _records(lines, separator, quoted)
    header = _header(records, wanted) if config.header is None else config.header
    if header and len(lines) == 1:
        columns.choose(source, records[0], wanted)
        raise UserError(f"{source}: {NO_ROWS}" if whole else f"{source}: the line behind the names is {_TOO_LONG}")
    return Dialect(encoding, line_end.encode(), separator, quoted, header, tuple(map(tuple, records)))


def _lines(text: str, whole: bool) -> tuple[str, list[str]]:
    """The end of lines, and a file's first lines without empty ones behind them; `whole`: these are all lines."""
    line_end = "\n" if "\n" in text else "\r"
    lines = text.replace("\r\n", "\n").split(line_end)
    if not whole and len(lines) > 1:
        lines.pop()  # it may be cut
    while len(lines) > 1 and not lines[-1].strip():
        lines.pop()
    return line_end, lines


def _encoding(sample: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if sample.startswith(mark):
            return encoding
    zeros = [sample[parity::2].count(0) / max(len(sample) // 2, 1) for parity in (0, 1)]
    if max(zeros) > 0.4 and min(zeros) < 0.1:
        return "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the last character may be cut
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _text(sample: bytes, encoding: str, source: str) -> str:
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(sample)
    except LookupError:
        raise UserError(f"data.encoding: given {encoding!r}, expected an encoding such as utf-8 or latin-1") from None
    except UnicodeError as error:
        raise UserError(f"{source}: cannot be read as text in {encoding} (data.encoding): {error}") from None
    if "\0" in text:
        raise UserError(f"{source}: cannot be read as text: the first lines are binary")
    return text.removeprefix("\ufeff")


def _separator(lines: list[str], wanted: Wanted) -> str | None:
    """The separator that makes the configured names of the first line, or else most values in every line alike."""
    names = [name for name in wanted.values() if isinstance(name, str) and columns.number(name) is None]
    for separator in (*SEPARATORS, BLANK):
        first = _records(lines[:1], separator, separator in _QUOTED)[0]
        if names and all(any(columns.named(full, name) for full in first) for name in names):
            return separator
    used = [line for line in lines if line.strip()]
    if any(columns.is_rest(name) for name in wanted.values()):
        return _separator_of_items(used)
    shares = {separator: _alike(used, separator) for separator in (*SEPARATORS, BLANK)}
    always = {separator: width for separator, (width, share) in shares.items() if width > 1 and share >= _CONSISTENT}
    if always.keys() - {BLANK}:
        return max(always.keys() - {BLANK}, key=lambda separator: (always[separator], -SEPARATORS.index(separator)))
    if always:
        return BLANK
    mostly = [separator for separator, (width, share) in shares.items() if width > 1 and share > _MOST]
    return mostly[0] if mostly else None if wanted else _separator_of_items(used)


def _separator_of_items(lines: list[str]) -> str | None:
    """The separator in most lines of one user each; the one that some line has twice, if there is one."""
    common = [s for s in (*SEPARATORS, BLANK) if sum(s in line for line in lines) > _MOST * len(lines)]
    twice = [s for s in common if any(line.count(s) > 1 for line in lines)]
    return next(iter(twice + common), None)


def _alike(lines: list[str], separator: str) -> tuple[int, float]:
    """The number of values that a separator cuts most lines into, and the share of these lines."""
    records = _records(lines, separator, separator in _QUOTED)
    width, count = Counter(map(len, records)).most_common(1)[0]
    return width, count / len(records) if len(records[0]) == width else 0.0


def _records(lines: list[str], separator: str, quoted: bool) -> list[list[str]]:
    """The values of the first lines that are not empty."""
    used = [line for line in lines[: 4 * _MAX_RECORDS] if line.strip()]
    if quoted:
        try:
            whole = csv.reader(io.StringIO("\n".join(used)), delimiter=separator)
            return [record for _, record in zip(range(_MAX_RECORDS), whole, strict=False)]
        except csv.Error:
            pass  # a value too long for this parser; lines are cut as they are
    return [line.split(None if separator == BLANK else separator) for line in used[:_MAX_RECORDS]]


def _wrapped(lines: list[str], separator: str) -> bool:
    """Whether quotes surround all values of a column; a single title in quotes does not make a quoted file."""
    records = _records(lines[1:], separator, quoted=False)
    values = [value for record in records for value in record]
    if any(value.startswith('"') and not _in_quotes(value) for value in values):
        return False
    return any(all(map(_in_quotes, column)) for column in zip(*records, strict=False))


def _in_quotes(value: str) -> bool:
    return len(value) > 1 and value[0] == value[-1] == '"'


def _header(records: list[list[str]], wanted: Wanted) -> bool:
    """Whether the first line holds names: always where columns are named, else if it looks like names."""
    if not columns.by_number(wanted):
        return True
    first, others = records[0], records[1:]
    named = [place for name in wanted.values() if (place := columns.number(name)) is not None]
    places = named or list(range(1, len(first) + 1))
    for place in places:
        values = [record[place - 1] for record in others if place <= len(record)]
        if place > len(first) or not values:
            continue
        if all(map(_is_number, values)) and not _is_number(first[place - 1]):
            return True
        if all(DATE.fullmatch(value.strip()) for value in values) and _WORD.search(first[place - 1]):
            return True
    return any(place <= len(first) and bool(_COMMON_NAMES.fullmatch(first[place - 1].strip())) for place in places)


def _is_number(value: str) -> bool:
    return _NUMBER.fullmatch(value.strip()) is not None
