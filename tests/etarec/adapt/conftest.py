"""The stream on which adapters and literal loops are compared."""

import pytest
from literal_adapt import World

from etarec.checkpoint import Checkpoint
from etarec.data import Interactions


@pytest.fixture
def world(log: Interactions, frozen: Checkpoint) -> World:
    return World(log, frozen)
