"""The experiment whose trials the tests select from."""

from pathlib import Path

import pytest
from measured_formula import spec_of

from search.spec import Spec


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_of(tmp_path)
