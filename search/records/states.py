"""The states of a trial, and the reasons why a search ends."""

from enum import StrEnum

from etarec.command_line import INTERRUPTED


class State(StrEnum):
    """The state of a trial, by the names of MLflow's run states, and PRUNED."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    PRUNED = "PRUNED"  # ended early because it could not win; MLflow has no such state
    FAILED = "FAILED"
    KILLED = "KILLED"


ENDED = (State.FINISHED, State.PRUNED, State.FAILED)  # a resumed search does not repeat these trials


class Ending(StrEnum):
    """The reason why a search has measured its last trial."""

    COMPLETE = "complete"
    CONVERGED = "no trial is expected to add much"
    OUT_OF_TIME = "its time is up"
    INTERRUPTED = "interrupted"
    FAILING = "too many failed trials in a row"
    ALL_FAILED = "every trial failed"

    @property
    def exit_status(self) -> int:
        return 0 if self.whole else INTERRUPTED if self is Ending.INTERRUPTED else 1

    @property
    def whole(self) -> bool:
        """Whether the search came to its own end, so that its front is measured on test."""
        return self in (Ending.COMPLETE, Ending.CONVERGED, Ending.OUT_OF_TIME)


PARENT_STATES = {
    Ending.COMPLETE: State.FINISHED,
    Ending.CONVERGED: State.FINISHED,
    Ending.OUT_OF_TIME: State.FINISHED,
    Ending.INTERRUPTED: State.KILLED,
    Ending.FAILING: State.FAILED,
    Ending.ALL_FAILED: State.FAILED,
}
