"""The exit status of a search, and its state in MLflow."""

import pytest

from search.records.states import PARENT_STATES, Ending, State


@pytest.mark.parametrize(
    ("ending", "status", "state"),
    [
        (Ending.COMPLETE, 0, State.FINISHED),
        (Ending.CONVERGED, 0, State.FINISHED),
        (Ending.OUT_OF_TIME, 0, State.FINISHED),
        (Ending.INTERRUPTED, 130, State.KILLED),
        (Ending.FAILING, 1, State.FAILED),
        (Ending.ALL_FAILED, 1, State.FAILED),
    ],
)
def test_an_ending_has_an_exit_status_and_a_state(ending: Ending, status: int, state: State) -> None:
    assert (ending.exit_status, PARENT_STATES[ending]) == (status, state)
    assert ending.whole == (status == 0)
