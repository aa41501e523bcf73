"""The first rows of a log, and a guess at which of its columns are users, items and times."""

import re
from dataclasses import dataclass

from etarec.config import ColumnsConfig, DataConfig
from etarec.readers import columnar, text
from etarec.readers.dialect import DATE
from etarec.readers.faults import readable
from etarec.readers.source import Columnar, Source, common_kind, sources

# Well-known names of columns, in lower case and letters only; of several the first wins.
_USERS = (
    "userid user uid reviewerid visitorid visitor customerid customer memberid profileid username playerid steamid "
    "listenerid buyerid buyer accountid clientid client shopper cookieid author sessionid session"
)
_ITEMS = (
    "itemid item iid movieid parentasin asin productid product aid artid articleid article newsid trackid songid "
    "artistid businessid venueid locationid poiid gameid appid bookid isbn sku contentid videoid clicks history "
    "itemids items"
)
_TIMES = (
    "timestamp unixreviewtime ts time unixtime datetime eventtime createdat playedat date eventdate reviewtime "
    "timestamps"
)
_INTEGER, _DECIMAL = re.compile(r"-?\d+"), re.compile(r"-?\d*\.\d+([eE][+-]?\d+)?")
_EPOCH = re.compile(r"(\d{9,10}|\d{12,13}|\d{15,16})(\.\d+)?")


@dataclass(frozen=True)
class Preview:
    """The beginning of a log."""

    described: str  # the format
    names: tuple[str, ...]  # of the columns; numbers where the file has no names
    types: tuple[str, ...]  # of the columns, in words
    rows: tuple[tuple[str, ...], ...]
    named: bool  # whether the file has names

    def guess(self) -> ColumnsConfig | None:
        """The columns of users, items and times; None if names and content do not tell."""
        if not self.named and len({len(row) for row in self.rows}) > 1:
            return ColumnsConfig(user=1, item="2-", timestamp=None)
        return self._by_name() if self.named else self._by_content()

    def example(self) -> tuple[str, str, str]:
        """Columns that may hold users, items and times, for the example in an error message."""
        places = self._by_content()
        if places is None:
            return self.names[0], self.names[-1], "null"
        chosen = (places.user, places.item, places.timestamp)
        user, item, time = (self.names[place - 1] if isinstance(place, int) else "null" for place in chosen)
        return user, item, time

    def _by_name(self) -> ColumnsConfig | None:
        plain = {name: re.sub(r"[^a-z]", "", name.split(":")[0].split(".")[-1].lower()) for name in self.names}
        user, item, time = (
            next((name.split(":")[0] for word in known.split() for name in plain if plain[name] == word), None)
            for known in (_USERS, _ITEMS, _TIMES)
        )
        if (
            time is None
            and len(dated := [n for n, kind in zip(self.names, self.types, strict=True) if kind == "date"]) == 1
        ):
            time = dated[0].split(":")[0]
        return None if user is None or item is None else ColumnsConfig(user=user, item=item, timestamp=time)

    def _by_content(self) -> ColumnsConfig | None:
        """User and item in the first two columns that are no times and no decimal numbers."""
        times = [place for place, kind in enumerate(self.types, start=1) if kind in ("date", "time")]
        others = [place for place, kind in enumerate(self.types, start=1) if kind in ("integer", "text")]
        if len(others) < 2:
            return None
        return ColumnsConfig(user=others[0], item=others[1], timestamp=times[-1] if times else None)


def preview(config: DataConfig) -> Preview:
    """The beginning of the log at `config.path`. Raises UserError if it cannot be read."""
    assert config.path is not None
    with readable(config.path, "a log"):
        parts = sources(config.path)
        kind = common_kind(parts)
    files = "" if len(parts) == 1 else f"{len(parts)} files of "
    with readable(config.path, kind):
        return _text(parts[0], config, files) if kind == "text" else _columnar(parts[0], files + kind, kind)


def _text(source: Source, config: DataConfig, files: str) -> Preview:
    found = text.dialect_of(source, config, {})
    rows = found.records[1:] if found.header else found.records
    names = found.names if found.header else tuple(str(place) for place in range(1, len(found.names) + 1))
    types = tuple(_type([row[place] for row in rows if place < len(row)]) for place in range(len(names)))
    return Preview(files + found.described(), names, types, rows, found.header)


def _columnar(source: Source, described: str, kind: Columnar) -> Preview:
    schema = columnar.schema(source, kind)
    fields = columnar.fields(schema)
    rows = tuple(tuple(map(str, row.values())) for row in columnar.head(source, kind, schema, 3))
    return Preview(described, tuple(fields), tuple(fields.values()), rows, named=True)


def _type(values: list[str]) -> str:
    """The type of a text column's first values, in words."""
    used = [value.strip() for value in values if value.strip()]
    forms = {"time": _EPOCH, "integer": _INTEGER, "number": _DECIMAL, "date": DATE}
    for name, form in forms.items():
        if used and all(form.fullmatch(value) or (name == "number" and _INTEGER.fullmatch(value)) for value in used):
            return name
    return "text"
