"""A searcher without Ray, and a cluster for the tests of a module that need one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.records.records import Records
from search.running import runner
from search.running import searcher as searcher_module
from search.running.plan import Plan
from search.running.searcher import JournalSearcher
from search.spec import SearchConfig, load


@pytest.fixture
def processes_started(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans for which processes of the measurements after the search were started."""
    started: list[Plan] = []
    monkeypatch.setattr(searcher_module, "start_processes", started.append)
    return started


@pytest.fixture
def searcher_of(tmp_path: Path, processes_started: list[Plan]) -> Callable[..., JournalSearcher]:
    def _searcher_of(concurrency: int, **search: Any) -> JournalSearcher:
        file = tmp_path / "space.yaml"
        space = {"top_k": {"low": 2, "high": 500, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}}
        file.write_text(yaml.safe_dump({"space": space, "search": {"trials": 4, **search}}))
        return JournalSearcher(load(file), Records(tmp_path), Plan(concurrency, 1, 1, 0), lambda trial: None)

    return _searcher_of


@pytest.fixture(scope="module")
def plan() -> Iterator[Plan]:
    """The plan of a cluster on this machine, of two trials at once."""
    with runner.cluster(SearchConfig(concurrency=2), None) as planned:
        yield planned
