"""Renders report.html, report.md and pareto.png from the plain files of a search: `python -m search.report DIR`.

Reads spec.yaml, provenance.json, trials.csv, pareto.csv, baselines.csv and chosen.yaml; every number of the report is
in them or computed from them.
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from etarec.config import Reason, UserError
from etarec.data import rehearsal_text
from etarec.disk import write_whole
from etarec.metrics import MAIN_METRICS, QUALITY_METRICS, SECONDS, label
from search import baselines
from search.records import frequent_reason, reason
from search.report import findings, numbers, parameters, plots, provenance
from search.report.files import Run, load
from search.report.view import Row, Split
from search.selection import differences
from search.selection.pareto import hypervolume

_PARTS = SECONDS[1:]  # of a measurement's seconds


def render(directory: Path) -> None:
    """Write report.html, report.md and pareto.png into the folder whose files they describe, each whole or not at all.

    Raises:
        UserError: the folder or one of its files is missing or unreadable, or the files contradict each other.
    """
    run = load(directory)
    context = describe(run)
    frames = (run.finished, run.front, run.baselines)
    drawn = (str(run.chosen.get("trial_id", "")), run.quality)
    try:
        plots.pareto_png(*frames, *drawn, directory / "pareto.png")
        _write(directory / "report.md", "report.md.j2", context)
        page = {"plotly": Markup(plots.plotly_script()), "pareto": Markup(plots.pareto_html(*frames, *drawn))}
        _write(
            directory / "report.html",
            "report.html.j2",
            {**context, **page, "plots": [Markup(plot) for plot in parameters.plots_of(run)]},
        )
    except OSError as error:
        raise UserError(f"{directory}: cannot write the report: {error.strerror}") from error


def describe(run: Run) -> dict[str, Any]:
    """The plain values and texts that both templates show."""
    front, fixed = _rows(run.front), {row["trial_id"]: row for row in _rows(run.baselines)}
    timed = [row for name, row in fixed.items() if not baselines.along_front(name)]
    chosen = next((row for row in front if row["trial_id"] == str(run.chosen.get("trial_id"))), None)
    return {
        "title": str(run.spec.get("name", "search")),
        **_columns(run),
        **_answer(run, chosen, front, fixed),
        "warnings": _warnings(run),
        "parameters": run.parameters,
        "parameter_values": dict(_front_values(run, row) for row in front),
        "hypervolume": hypervolume(run.front[[f"valid_{run.quality}", "valid_filter_rate"]]),
        "filters": run.filters,
        "rehearsal": _rehearsal(run.provenance.get("rehearsal") or {}),
        "nothing_to_learn": _nothing_to_learn(run, chosen) if chosen else "",
        "choice": run.chosen,
        "adapt": yaml.safe_dump(run.chosen.get("adapt", {}), sort_keys=False).strip(),
        "effects": parameters.effects(run),
        "noise": min(1.96 / math.sqrt(max(len(run.finished) - 1, 1)), 1.0),
        "counts": _counts(run),
        "failures": _failures(run.trials),
        "timings": _timings(run.view.split, [*timed, *([chosen] if chosen else [])]),
        "trial_seconds": {name: float(run.finished[name].sum()) for name in SECONDS},
        "phases": {name: s for name, s in (run.provenance.get("seconds") or {}).items() if s is not None},
        "provenance": provenance.labelled(run.provenance),
        "command": str(run.provenance.get("command", "")),
    }


def _columns(run: Run) -> dict[str, Any]:
    """The columns that the tables show: the quality metric, one compared metric beside it, and the other metrics."""
    beside = next(metric for metric in MAIN_METRICS if metric != run.quality)
    return {
        "split": run.view.split,
        "split_word": run.view.word,
        "quality": run.quality,
        "beside": beside,
        "other_metrics": [metric for metric in QUALITY_METRICS if metric != run.quality],
        "vs_random": f"test_{differences.TO_RANDOM}_{run.quality}",
        "deltas": [f"test_{differences.TO_ALL}_{metric}" for metric in (run.quality, beside)],
    }


def _answer(run: Run, chosen: Row | None, front: list[Row], fixed: dict[str, Row]) -> dict[str, Any]:
    """Headline and findings, and the rows that they are about."""
    everything = fixed.get(baselines.ALL)
    return {
        "chosen": chosen,
        "headline": _headline(run, chosen, everything),
        "findings": findings.findings(chosen, fixed, front, run.view) if chosen else [],
        "saved": findings.saving(chosen, everything, run.view.split) if chosen else None,
        "front": front,
        "baselines": list(fixed.values()),
        "all": baselines.ALL,
        "no_adaptation": baselines.NONE,
        "has_rates": any(map(baselines.along_front, fixed)),
        "has_random": any(row[f"test_{differences.TO_RANDOM}_{run.quality}"] is not None for row in front),
    }


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


def _nothing_to_learn(run: Run, chosen: Row) -> str:
    """The share of the samples that offer nothing to learn, which the filter rate includes; empty without any."""
    column = Reason.NOTHING_TO_LEARN.column
    if not chosen.get(f"valid_{column}"):
        return ""
    shares = [f"{numbers.percent(chosen[f'valid_{column}'])} of the validation samples"]
    if run.view.split == "test":
        shares.append(f"{numbers.percent(chosen[f'test_{column}'])} of the test samples")
    return (
        f"{' and '.join(shares)} never reach the gate, because their last transition is in the training data "
        f"({label(column)}); the filter rate includes them."
    )


def _rows(frame: pd.DataFrame) -> list[Row]:
    rows = frame.to_dict("records")
    plain = [{str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return [{**row, "on_test_front": str(row.get("on_test_front")).lower() == "true"} for row in plain]


def _front_values(run: Run, row: Row) -> tuple[str, list[str]]:
    return row["trial_id"], [parameters.text(name, row[name]) for name in run.parameters]


def _headline(run: Run, chosen: Row | None, everything: Row | None) -> list[str]:
    if chosen is None:
        return [_why_no_front(run.trials)]
    text = ", ".join(f"{name} {parameters.text(name, chosen[name])}" for name in run.parameters)
    return findings.headline(chosen, text, everything, run.view)


def _why_no_front(trials: pd.DataFrame) -> str:
    """The reason for a report without a front."""
    nothing = "so there is no front and nothing to recommend."
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


def _failures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """The trials without a result, grouped by state and reason."""
    ended = trials[trials["state"].isin(["FAILED", "KILLED"])]
    reasons = ended["error"].map(reason) if "error" in ended else pd.Series("no reason recorded", index=ended.index)
    groups = ended.groupby([ended["state"], reasons], sort=False)["trial_id"]
    return [{"state": state, "reason": cause, "trials": list(ids)} for (state, cause), ids in groups]


def _timings(split: Split, rows: list[Row]) -> list[dict[str, Any]]:
    """Seconds of each part of a measurement; `other` is the rest, such as ranking and batching."""
    timings = []
    for row in rows:
        parts = {name.removesuffix("_seconds"): row[f"{split}_{name}"] for name in _PARTS}
        total = row[f"{split}_seconds"]
        if total is not None and None not in parts.values():
            other = max(total - sum(parts.values()), 0.0)
            timings.append({"name": row["trial_id"], **parts, "other": other, "total": total})
    return timings


def _write(path: Path, template: str, context: dict[str, Any]) -> None:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        score=numbers.score,
        pct=numbers.percent,
        signed=numbers.signed,
        sig=numbers.significant,
        rho=numbers.correlation,
        label=label,
        description=baselines.description,
        cell=_cell,
    )
    write_whole(path, environment.get_template(template).render(context))


def _cell(text: Any) -> str:
    """Text escaped for a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
