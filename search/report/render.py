"""Renders report.html, report.md and the images from the plain files of a search: `python -m search.report DIR`.

Reads spec.yaml, provenance.json, trials.csv, pareto.csv, baselines.csv and chosen.yaml; every number of the report is
in them or computed from them.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from etarec.command_line import is_disk_fault, short_path
from etarec.config import Reason, UserError
from etarec.data import rehearsal_text
from etarec.disk import write_whole
from etarec.metrics import SECONDS, label
from search import baselines, numbers
from search.records.trial import frequent_reason
from search.report import health, pareto_plot, plots, provenance, search_tables, tables, templates
from search.report.answer import Answer
from search.report.files import Run, load
from search.report.hover import hover_of
from search.report.sections import Sections
from search.selection.advice import Verdict
from search.selection.differences import TO_ALL, TO_NONE, Kind
from search.selection.judgement import MEANINGS
from search.selection.other_objectives import left_out
from search.selection.view import Difference, Row, View

OUTPUTS = ("report.html", "report.md", *pareto_plot.IMAGES)
_TONES = {Verdict.USE: "good", Verdict.DO_NOT_ADAPT: "bad", Verdict.ADAPT_ON_ALL: "bad"}


def render(directory: Path) -> None:
    """Write OUTPUTS into the folder whose files they describe, each whole or not at all.

    Raises:
        UserError: the folder or one of its files is missing, unreadable or not to be written, or the files contradict
            each other.
        OSError: the disk is at fault.
    """
    run = load(directory)
    more = Sections(Answer(run))
    context = describe(more, Path(short_path(directory.absolute())))
    try:
        pareto_plot.pareto_images(more.frames, directory)
        _write(directory / "report.md", "report.md.j2", context)
        _write(directory / "report.html", "report.html.j2", {**context, **_drawn(more)})
    except OSError as error:
        if is_disk_fault(error):
            raise
        raise UserError(f"{directory}: cannot write the report: {error.strerror}") from error


def _drawn(more: Sections) -> dict[str, Any]:
    """Plotly's script, and the plots of the page as HTML."""
    hover = hover_of(more.answer)
    return {
        "plotly": Markup(plots.plotly_script()),
        "pareto": Markup(pareto_plot.pareto_html(more.frames, hover)),
        "parallel": more.parallel(),
        **{name: [(title, Markup(plot)) for title, plot in drawn] for name, drawn in more.plots(hover).items()},
    }


def describe(more: Sections, folder: Path) -> dict[str, Any]:
    """The plain values and texts that both templates show. `folder` is the search's, in commands."""
    answer = more.answer
    run = answer.run
    return {
        "title": str(run.spec.get("name", "search")),
        "view": answer.view,
        "advice": answer.advice,
        "tone": _TONES.get(answer.advice.verdict, "note"),
        "why_no_front": None if answer.chosen else _why_no_front(run),
        "warnings": _warnings(run),
        "chosen": answer.chosen,
        "tiles": _tiles(answer),
        "findings": answer.findings,
        "next": (answer.purpose(), answer.command(folder)) if answer.next_is_known else None,
        "front": tables.front(answer),
        "front_is": _front_is(len(answer.front), len(run.objectives)),
        "measurements": tables.measurements(answer),
        "baselines": tables.fixed(answer),
        "effects": search_tables.effects(run, more.importances),
        "failures": search_tables.failures(run),
        "trials": search_tables.trials(run),
        "costs": search_tables.costs(answer, more.noise),
        "problems": more.problems,
        "checks": len(health.checks(answer)),
        **more.sentences(),
        "meanings": [(str(judgement), words) for judgement, words in MEANINGS.items()],
        "areas": _areas(run.provenance.get("search") or {}, run.objectives, answer.view),
        "left_out": " and ".join(map(label, left_out(run.objectives, answer.view))),
        "nothing_to_learn": _nothing_to_learn(answer),
        "rehearsal": _rehearsal(run.provenance.get("rehearsal") or {}),
        "no_adaptation": baselines.NONE,
        "choice": run.chosen,
        "settings": answer.fixed_command(folder),
        "adapt": yaml.safe_dump(run.chosen.get("adapt", {}), sort_keys=False).strip(),
        "noise": min(1.96 / math.sqrt(max(len(run.finished) - 1, 1)), 1.0),
        "counts": _counts(run),
        "trial_seconds": {name: float(run.finished[name].sum()) for name in SECONDS},
        "phases": {name: s for name, s in (run.provenance.get("seconds") or {}).items() if s is not None},
        "provenance": provenance.labelled(run.provenance),
        "command": str(run.provenance.get("command", "")),
    }


def _tiles(answer: Answer) -> list[tuple[str, str]]:
    """The chosen point's numbers at a glance: a figure and its meaning."""
    row, view = answer.chosen, answer.view
    if row is None:
        return []
    low, high = (row.get(f"{view.column}_{end}") for end in ("low", "high"))
    bounds = "" if low is None or view.split == "valid" else f", 95%: {numbers.score(low)} to {numbers.score(high)}"
    tiles = [
        (numbers.percent(view.skipped(row)), f"of the passes skipped on {view.word} by {row['trial_id']}"),
        (numbers.score(view.quality(row)), f"{view.label} on {view.word}{bounds}"),
    ]
    tiles += [_difference_tile(gap, view, words) for gap, words in _compared(row, view)]
    computing = view.computing(row)
    if computing is None:
        return tiles
    less = f"{numbers.percent(abs(1 - computing), 0)} {'less' if computing <= 1 else 'more'}"
    return [*tiles, (less, "computing for learning, by formula, than adapting on every sample")]


def _compared(row: Row, view: View) -> list[tuple[Difference, str]]:
    kinds: tuple[tuple[Kind, str], ...] = ((TO_ALL, "adapting on every sample"), (TO_NONE, "no adaptation"))
    return [(gap, words) for kind, words in kinds if (gap := view.recorded(row, kind))]


def _difference_tile(gap: Difference, view: View, words: str) -> tuple[str, str]:
    p = "" if gap.p_holm is None else f"p {numbers.p_value(gap.p_holm)}".replace(" ", "\N{NO-BREAK SPACE}")
    return numbers.signed(gap.value), f"{view.label} compared with {words}{', ' if p else ''}{p}"


def _front_is(points: int, objectives: int) -> str:
    """The meaning of the front, in words."""
    these = "this configuration" if points == 1 else f"these {points} configurations"
    beats = f"beats {these} in {'both' if objectives == 2 else 'all'} objectives on validation"
    return f"No trial, and no baseline that was measured before the trials, {beats}."


def _nothing_to_learn(answer: Answer) -> str:
    """The share of the samples that no configuration can learn from; empty where there are none."""
    row, column = answer.chosen, Reason.NOTHING_TO_LEARN.column
    if row is None or not row.get(f"valid_{column}"):
        return ""
    shares = f"{numbers.percent(row[f'valid_{column}'])} of the validation samples"
    if answer.view.split == "test":
        shares += f" and {numbers.percent(row[f'test_{column}'])} of the test samples"
    return (
        f"{shares} have nothing to learn, because their last transition is in the training data ({column}). Shares of "
        "skipped passes leave them out; filter_rate counts them as skipped."
    )


def _rehearsal(record: dict[str, Any]) -> str:
    """The meaning of validation in a rehearsed search; empty where trials ran on the validation split."""
    counts = record.get("samples") or {}
    if not {"train", "valid"} <= counts.keys():
        return ""
    where = rehearsal_text(counts)
    return (
        f"Validation is a rehearsal here: trials and baselines {where}. Test uses the checkpoint trained on all "
        "training data."
    )


def _areas(about: Mapping[str, Any], objectives: Sequence[str], view: View) -> str:
    """The size of the front as a sentence, from the provenance; empty where an older search does not say it.

    The recorded numbers count all objectives, the plots of the growth only the quality and the skipped passes.
    """
    share, gain = about.get("area_share"), about.get("gain_over_dice")
    texts = []
    if isinstance(share, int | float):
        counted = " in all objectives of the search" if left_out(objectives, view) else ""
        covered = f"{numbers.percent(share, 0)} of the {'area' if len(objectives) == 2 else 'volume'}"
        texts.append(f"The front covers {covered} between no adaptation and adapting on every sample{counted}.")
    if isinstance(gain, int | float):
        size = f"{numbers.percent(abs(gain), 0)} {'more' if gain >= 0 else 'less'}"
        texts.append(f"The trials alone cover {size} of it than random skipping.")
    return " ".join(texts)


def _why_no_front(run: Run) -> str:
    """The reason for a report without a front; empty where the advice says it."""
    nothing, trials = "so there is no front and nothing to recommend.", run.trials
    if run.beaten:
        return ""
    if trials.empty or not (trials["state"] == "FAILED").all() or "error" not in trials:
        return f"No trial finished, {nothing}"
    cause, count = frequent_reason(trials["error"])
    return f"Every trial failed, {count} of {len(trials)} with: {cause}; {nothing}"


def _warnings(run: Run) -> list[str]:
    warnings = []
    if (run.provenance.get("search") or {}).get("interrupted"):
        warnings.append("The search was interrupted: this report covers the trials that had ended by then.")
    if len(run.front) and run.view.split == "valid":
        warnings.append(
            "Not measured on test. All numbers are from validation, where the configurations were selected, so they "
            "are optimistic and have no intervals and no p-values."
        )
    recorded = (run.provenance.get("search") or {}).get("finished")
    if recorded is not None and recorded != len(run.finished):
        warnings.append(
            f"The files disagree: provenance.json counts {recorded} finished trials, trials.csv {len(run.finished)}."
        )
    return warnings


def _counts(run: Run) -> dict[str, int]:
    requested = (run.provenance.get("search") or {}).get("requested")
    states = dict.fromkeys(("FINISHED", "FAILED", "KILLED"), 0) | run.trials["state"].value_counts().to_dict()
    counts = {str(state).lower(): int(count) for state, count in states.items()}
    return counts if requested is None else {"requested": int(requested), **counts}


def _write(path: Path, template: str, context: dict[str, Any]) -> None:
    write_whole(path, templates.filled(template, context))
