"""The small log of etarec's tests, deployed."""

import pytest

from etarec.checkpoint import Checkpoint
from etarec.data import Interactions

from .deployment import Deployment


@pytest.fixture
def deployment(log: Interactions, frozen: Checkpoint) -> Deployment:
    return Deployment(log, frozen)
