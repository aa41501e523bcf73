"""Writing and reading the small logs of the tests."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etarec import readers
from etarec.config import ColumnsConfig, DataConfig
from etarec.readers import Log

Reader = Callable[..., Log]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Write `content` to a file and read it; columns as `user, item, timestamp`, other settings by name."""

    def _read(content: str | bytes, *columns: str | int | None, name: str = "log.txt", **fields: Any) -> Log:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if columns:
            fields["columns"] = ColumnsConfig(**dict(zip(("user", "item", "timestamp"), columns, strict=False)))
        return readers.read(DataConfig(path=str(path), **fields))

    return _read


@pytest.fixture
def rows() -> Callable[[Log], list[tuple[Any, ...]]]:
    """The log's rows: the user's code, the item's token and the time."""

    def _rows(log: Log) -> list[tuple[Any, ...]]:
        columns = [log.users.tolist(), log.tokens.take(log.items).to_pylist()]
        return list(zip(*columns, *([] if log.times is None else [log.times.tolist()]), strict=True))

    return _rows
