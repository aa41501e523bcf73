"""A made-up search whose files a test may change before it writes them."""

import pytest
from made_up_search import made_up_files


@pytest.fixture
def files():
    return made_up_files()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "run"
