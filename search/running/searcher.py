"""The next trial for Ray Tune: a new suggestion, a repeated attempt, or none while Tune must wait.

Each attempt at a trial is a trial of Ray's own. A trial keeps its number, its place in the study and its MLflow run
over all its attempts, and the study is told about the last attempt only.
"""

import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from search.records.records import Records
from search.records.states import ENDED, Ending, State
from search.records.trial import Trial
from search.running.faults import Fault, Kind
from search.running.measuring import start_processes
from search.running.plan import Plan
from search.running.rivals import Rivals
from search.running.suggest import Suggestions
from search.spec import Spec, objectives_of, trial_config, trial_seed
from search.spec.space import rule_of


class JournalSearcher(Searcher):
    """Ray Tune's searcher over `Suggestions`, which continues where the records end."""

    def __init__(self, spec: Spec, records: Records, plan: Plan, on_change: Callable[[Trial], Any]):
        super().__init__()
        self.spec, self.records, self.plan, self.on_change = spec, records, plan, on_change
        anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
        taken = [(trial.parameters, objectives_of(spec.search, trial.metrics)) for trial in records.taken]
        self.suggestions = Suggestions(spec, plan.concurrency, anchors, taken, records.first)
        self._rivals = Rivals(spec, records, plan.concurrency)
        self.numbers: dict[str, int] = {}  # of trials, by Ray's trial id
        self._running: set[int] = set()
        self._again: deque[int] = deque()  # trials to repeat
        self._alone: set[int] = set()  # trials that run with nothing beside them
        self._next = len(taken)
        self._end = len(taken) + spec.search.budget
        self._ahead: dict[str, Any] | None = None  # the next trial's parameters, once they are drawn
        self._exhausted = self._measures_next = self._failing = self._over = False
        self._began = time.monotonic()
        self._failures_in_a_row = 0

    def set_search_properties(self, metric: Any, mode: Any, config: Any, **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]  # FINISHED is a str
        if self._failing:
            return Searcher.FINISHED
        if len(self._running) == self.plan.concurrency or self._running & self._alone:
            return None
        if self._again:
            return self._repeat(trial_id)
        while not self._is_over() and (following := self._following()) is not None:
            if (started := self._start(trial_id, *following)) is not None or self._failing:
                return started
        if self._next < self._end and not self._exhausted and not self._over:
            return None
        if not self._measures_next:
            self._measures_next = True
            start_processes(self.plan)
        return None if self._running else Searcher.FINISHED  # a running trial may have to be repeated

    def draw_ahead(self) -> None:
        """Draws the next suggestion while all workers are busy, so that no worker waits for the sampler."""
        if len(self._running) == self.plan.concurrency and self._next < self._end:
            self._draw()

    def ended(self, number: int) -> None:
        """Notes the end of trial `number`, after the records."""
        ended = self.records.trials[number]
        self._running.remove(number)
        self._failures_in_a_row = self._failures_in_a_row + 1 if ended.state is State.FAILED else 0
        if self._failures_in_a_row >= self.spec.search.max_failures_in_a_row:
            self._failing = True  # stays true even if a trial that is still running finishes
        self._tell(ended)
        self.on_change(ended)

    def retry(self, number: int, fault: Fault) -> bool:
        """Whether trial `number` is repeated; if so, the records hold the failed attempt."""
        crowded = self.plan.concurrency > 1 and number not in self._alone
        transient = fault.kind is Kind.DIED or (fault.kind is Kind.CROWDED and crowded)
        if not transient or self._failing or self.records.trials[number].retries >= self.spec.search.retries:
            return False
        self.records.retried(number, fault.reason, fault.traceback)
        self._running.remove(number)
        self._again.append(number)
        if fault.kind is Kind.CROWDED:
            self._alone.add(number)
        return True

    @property
    def idle_workers(self) -> int:
        """How many workers may stay without a trial: none beside a trial that runs alone, and none at the end."""
        alone = self._alone & self._running or (self._again and self._again[0] in self._alone)
        return 0 if alone or self._measures_next or self._failing else self.plan.concurrency

    @property
    def ending(self) -> Ending:
        """Why the search ended, once it has."""
        if self._failing:
            return Ending.FAILING
        counted = self._exhausted or self._next == self._end
        if self.records.in_state(State.KILLED) or not (counted or self._over):
            return Ending.INTERRUPTED
        if not self.records.in_state(State.FINISHED, State.PRUNED):
            return Ending.ALL_FAILED
        if self.suggestions.converged:
            return Ending.CONVERGED
        return Ending.COMPLETE if counted else Ending.OUT_OF_TIME

    def _is_over(self) -> bool:
        """Whether the search's time is up, so that no other trial begins."""
        minutes = self.spec.search.max_minutes
        self._over = minutes is not None and time.monotonic() - self._began > 60 * minutes
        return self._over

    def _repeat(self, trial_id: str) -> dict[str, Any] | None:
        if self._again[0] in self._alone and self._running:
            return None
        number = self._again.popleft()
        return self._start(trial_id, number, self.records.trials[number].parameters)

    def _following(self) -> tuple[int, dict[str, Any]] | None:
        """The next suggestion without a result. The study is told the results of the suggestions before it."""
        while self._next < self._end and self._draw() and self._ahead is not None:
            number, parameters, self._ahead = self._next, self._ahead, None
            self._next += 1
            known = self.records.trials.get(number)
            if known is None or known.state not in ENDED:
                return number, parameters
            self._tell(known)
        return None

    def _start(self, trial_id: str, number: int, parameters: dict[str, Any]) -> dict[str, Any] | None:
        """The configuration that a worker gets; None if it cannot be built, and then the trial has failed."""
        self._running.add(number)
        self.records.started(number, parameters)
        self.on_change(self.records.trials[number])
        try:
            config = trial_config(self.spec, parameters)
        except ValueError as error:
            self.records.ended(number, State.FAILED, f"no such configuration: {rule_of(error)}", traceback.format_exc())
            self.ended(number)
            return None
        self.numbers[trial_id] = number
        seed = trial_seed(self.spec.search.seed, config)
        return {"adapt": dict(vars(config)), "seed": seed, "rivals": self._rivals.reference(number)}

    def _draw(self) -> bool:
        """Whether the next suggestion is known. In an exhausted space it is None."""
        if self._ahead is None and not self._exhausted:
            if not self.suggestions.ready():
                return False
            known = self.records.trials.get(self._next)
            self._ahead = self.suggestions.ask(known.parameters if known else None)
            self._exhausted = self._ahead is None
        return True

    def _tell(self, ended: Trial) -> None:
        values = objectives_of(self.spec.search, ended.metrics) if ended.metrics else None
        self.suggestions.tell(ended.number, values, ended.state is State.PRUNED, ended.metrics)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Does nothing: `Recorder` calls `ended` once the end is on disk."""

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the records rebuild the study."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a search is resumed from the records."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles searchers into an experiment file that no one reads."""
        return {}
