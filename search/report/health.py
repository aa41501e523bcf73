"""Health checks of a search: signs that its answer rests on weak ground, each with what to do about it.

A check is a pure function of the search's files. It returns None where all is well, and where it cannot be made.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from etarec.metrics import label
from search import baselines
from search.numbers import correlation, percent, score
from search.report import along, axes, shrinkage, trend
from search.report.answer import Answer
from search.report.files import TRIALS_PER_PARAMETER
from search.report.importance import importances
from search.report.pareto_plot import Frames
from search.report.plots import skipped
from search.selection.differences import TO_CHOSEN
from search.spec.dimension import form_problems

NO_EFFECT = 0.05  # share of the variance; below it with the whole interval, a parameter has no effect
CLUMP, MOST = 0.05, 0.5  # a range of skipped passes, and the share of trials that may lie in one
CONFIRMED = 0.5  # rank correlation of validation and test
FAILURES = 0.2  # share of trials
COLLAPSED = 0.9  # of the quality of no adaptation, at the end of the stream


class Problem(NamedTuple):
    """A sign of weak ground, and what to do."""

    title: str
    advice: str


Check = Callable[[Answer], Problem | None]


def problems(answer: Answer) -> list[Problem]:
    """The problems of a search, in the order of `CHECKS`."""
    return [problem for check in checks(answer) if (problem := check(answer))]


def checks(answer: Answer) -> list[Check]:
    """The checks that a search allows: without a choice those of model and baselines, without a verdict none."""
    if answer.chosen is not None:
        return list(CHECKS.values())
    return [_failures, _training, _popularity, _collapse] if answer.run.beaten else []


def _failures(answer: Answer) -> Problem | None:
    trials = answer.run.trials
    failed = int((trials["state"] == "FAILED").sum())
    if failed <= FAILURES * len(trials):
        return None
    return Problem(f"{failed} of {len(trials)} trials failed.", "Read their reasons in trials.csv and mend the cause.")


def _trials(answer: Answer) -> Problem | None:
    finished, searched = len(answer.run.finished), len(answer.run.parameters)
    if finished >= TRIALS_PER_PARAMETER * searched:
        return None
    trials, are = ("trial", "is") if finished == 1 else ("trials", "are")
    return Problem(
        f"{finished} {trials} {are} few for {searched} parameter{'s' * (searched != 1)}.",
        f"Go on with --resume --trials {answer.run.more_trials}.",
    )


def _budget(answer: Answer) -> Problem | None:
    gain = trend.late_gain(trend.areas(answer.run))
    if gain is None or gain < trend.MUCH:
        return None
    return Problem(
        f"The front was still growing: the last quarter of the trials brought {percent(gain)} of its area.",
        f"Go on with --resume --trials {answer.run.more_trials}.",
    )


def _edge(answer: Answer) -> Problem | None:
    """The first parameter of which most front points lie at an end of its range that can be moved."""
    run = answer.run
    for name, axis in axes.searched(run).items():
        places = axis.positions(run.front[name])
        for end, at_end in (("low", places <= axes.EDGE), ("high", places >= 1 - axes.EDGE)):
            if not axis.names and at_end.mean() > MOST and _movable(answer, name, end):
                value = f"{getattr(axis, end):g}"
                return Problem(
                    f"{int(at_end.sum())} of {len(places)} front points have {name} at the {end} end of its range, "
                    f"{value}.",
                    f"Widen it in the space: --set space.{name}.{end}=...",
                )
    return None


def _movable(answer: Answer, name: str, end: str) -> bool:
    """Whether a value beyond an end of the range would be legal."""
    entry, items = answer.run.spec["space"][name], answer.run.items
    low, high = entry["low"], entry["high"]
    if name == "top_k" and end == "high" and items and high >= items:
        return False
    whole = isinstance(low, int) and isinstance(high, int)
    step = 1 if whole else (low / 2 if entry.get("log") and end == "low" else (high - low) / 10)
    return not list(form_problems(name, {end: low - step if end == "low" else high + step}))


def _no_effect(answer: Answer) -> Problem | None:
    found = importances(answer.run)
    idle = [name for name in answer.run.parameters if found and all(s[name].high < NO_EFFECT for s in found.values())]
    if not idle:
        return None
    one = len(idle) == 1
    return Problem(
        f"{' and '.join(idle)} {'has' if one else 'have'} no effect on {label(answer.run.quality)} or skipped passes.",
        f"Fix {'it' if one else 'them'} under adapt and take {'it' if one else 'them'} out of the space.",
    )


def _clumped(answer: Answer) -> Problem | None:
    if len(answer.run.finished) < trend.FEWEST_TRIALS:
        return None
    shares = np.sort(skipped(answer.run.finished, "").to_numpy(dtype=float))
    within = np.searchsorted(shares, shares + CLUMP, side="right") - np.arange(len(shares))
    first, count = int(np.argmax(within)), int(within.max())
    if count <= MOST * len(shares):
        return None
    return Problem(
        f"{count} of {len(shares)} trials skip about as much, {shares[first]:.0%} to {shares[first + count - 1]:.0%}.",
        "Narrow the ranges that lead there, or search them with log: true.",
    )


def _order(answer: Answer) -> Problem | None:
    run = answer.run
    frames = Frames(run.finished, run.front, run.baselines, str(run.chosen.get("trial_id")), run.quality)
    found = shrinkage.agreement(shrinkage.measured(frames))
    if found is None or found.rank >= CONFIRMED:
        return None
    return Problem(
        f"Test does not confirm the order on validation: the rank correlation is {correlation(found.rank)}.",
        "Search on a longer stream: data.rehearsal_share (README, Rehearsal).",
    )


def _training(answer: Answer) -> Problem | None:
    checkpoint, train = answer.run.provenance.get("checkpoint") or {}, answer.run.spec.get("train") or {}
    best, most, patience = checkpoint.get("epochs"), train.get("epochs"), train.get("patience", 0)
    if answer.run.spec.get("checkpoint") or best is None or most is None or best + patience <= most:
        return None
    return Problem(
        f"The model was still improving when training ended: its best epoch is {best} of {most}.",
        f"Train longer: --set train.epochs={2 * most}.",
    )


def _popularity(answer: Answer) -> Problem | None:
    provenance, quality = answer.run.provenance, answer.run.quality
    model = ((provenance.get("checkpoint") or {}).get("valid") or {}).get(quality)
    popular = ((provenance.get("data") or {}).get("popularity") or {}).get(quality)
    if model is None or popular is None or model > popular:
        return None
    return Problem(
        f"The model is no better than recommending the most popular items to everybody: {label(quality)} on "
        f"validation is {score(model)} and {score(popular)}.",
        "Train it longer or with another learning rate before you search.",
    )


def _other_gates(answer: Answer) -> str:
    """The way to better gates: wider, where the space has no gate by loss and may have one, and else longer."""
    own_gate = ":" in str((answer.run.spec.get("adapt") or {}).get("gate"))  # a class path, which takes no criterion
    if own_gate or "criterion" in answer.run.parameters:
        return f"search on with --resume --trials {answer.run.more_trials}"
    return "let the space hold other gates: criterion: loss with correction: selection, filtered: residual"


def _single(answer: Answer) -> Problem | None:
    if len(answer.front) != 1:
        return None
    return Problem(
        "The front is a single point, so there is no trade-off to choose from.", f"{_other_gates(answer).capitalize()}."
    )


def _dice(answer: Answer) -> Problem | None:
    random, view = answer.baselines.get(baselines.RANDOM), answer.view
    gap = view.recorded(random, TO_CHOSEN) if random else None
    if gap is None or not gap.measured or gap.lower:
        return None
    return Problem(
        "The chosen gate is not clearly better than random skipping.", f"Skip at random, or {_other_gates(answer)}."
    )


def _published(answer: Answer) -> Problem | None:
    published, view, chosen = answer.baselines.get(baselines.PUBLISHED), answer.view, answer.chosen
    gap = view.recorded(published, TO_CHOSEN) if published else None
    if gap is None or published is None or chosen is None or not gap.measured or gap.lower:
        return None
    if view.skipped(published) < view.skipped(chosen):
        return None
    return Problem(
        "The chosen gate is not clearly better than the published one, which skips as much.",
        "Use the published gate, or search on with more trials.",
    )


def _collapse(answer: Answer) -> Problem | None:
    ends = along.collapse(answer.run)
    if ends is None or ends[0] >= COLLAPSED * ends[1]:
        return None
    return Problem(
        f"Adapting on every sample collapses: over the last quarter of the stream {answer.view.label} is "
        f"{score(ends[0])}, without adaptation {score(ends[1])}.",
        "Lower adapt.learning_rate, or add fisher_alpha or reset: batch.",
    )


CHECKS: dict[str, Check] = {
    "failed trials": _failures,
    "trials per parameter": _trials,
    "growth of the front": _budget,
    "ends of the ranges": _edge,
    "parameters without effect": _no_effect,
    "spread of the trials": _clumped,
    "size of the front": _single,
    "order on test": _order,
    "end of training": _training,
    "popularity": _popularity,
    "random skipping": _dice,
    "published gate": _published,
    "collapse": _collapse,
}
