"""Fixtures for all tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from etarec import own
from tests.faults.stage import restore_ctrl_c
from tests.own_package import PACKAGE, write_package

settings.register_profile("untimed", deadline=None)  # a slow example on a busy machine is not a failure
settings.register_profile("long", deadline=None, max_examples=1000, print_blob=True)  # make fuzz
settings.load_profile("untimed")

restore_ctrl_c()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file that start Ray run one after another, in one process of pytest-xdist."""
    for item in items:
        if item.get_closest_marker("ray"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """Seed torch before every fixture, so that its models do not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Seed torch before every test, so that its models do not depend on the tests that ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_auth_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restores RAY_AUTH_MODE, which the program sets to join a cluster with a token.

    Ray keeps the first mode that it reads in a process but starts servers in the present mode, so a mode left by one
    test would lock the next one out of its own cluster.
    """
    monkeypatch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", ""))  # restored after the test
    if not os.environ["RAY_AUTH_MODE"]:
        monkeypatch.delenv("RAY_AUTH_MODE")


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a freshly imported package of the user's own, see tests/own_package.py."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(own, "_IMPORTED", {})
    yield write_package(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the real logs: $ETAREC_DATA, or else ../shared/data."""
    folder = Path(os.environ.get("ETAREC_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.fail(f"{folder} is missing: tests marked `data` need the real logs; set ETAREC_DATA to their folder")
    return folder
