"""Renders report.html, report.md and pareto.png from the plain files of a search: `python -m search.report DIR`.

Reads spec.yaml, provenance.json, trials.csv, pareto.csv, baselines.csv and chosen.yaml; every number is computed from
them. p-values in the files are unadjusted; the correction for several comparisons (Holm) is made here.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from etarec.config import UserError
from search.records import frequent_reason, reason
from search.report import findings, plots
from search.report.files import SECONDS, Run, load
from search.report.findings import Row, Split
from search.report.plots import METRIC_WORDS
from search.selection import chance
from search.selection.pareto import hypervolume

BASELINES = {
    "none": "the frozen model, no backward pass",
    "all": "adapts on every sample that its objective can use, no gate",
    "random": "skips at random as much of each split as the chosen configuration skips",
    "naive": "the gate on the entropy over all items with E0 = 0.4 ln V",
    "published": "the published gate: K = 50, quantile 0.5, cosine threshold 0.3",
}
ALONG = "skips that share at random of the samples that a gate is asked about"


def render(directory: Path) -> None:
    """Write report.html, report.md and pareto.png into the folder whose files they describe.

    Raises:
        UserError: the folder or one of its files is missing or unreadable, or the files contradict each other.
    """
    run = load(directory)
    context = describe(run)
    frames = (run.finished, run.front, run.baselines)
    what = (str(run.chosen.get("trial_id", "")), run.quality)
    try:
        plots.pareto_png(*frames, *what, directory / "pareto.png")
        _write(directory / "report.md", "report.md.j2", context)
        page = {"plotly": Markup(plots.plotly_script()), "pareto": Markup(plots.pareto_html(*frames, *what))}
        _write(directory / "report.html", "report.html.j2", {**context, **page, "plots": _parameter_plots(run)})
    except OSError as error:
        raise UserError(f"{directory}: cannot write the report: {error.strerror}") from error


def describe(run: Run) -> dict[str, Any]:
    """All that both templates show, as plain values and text."""
    front, baselines = _rows(run.front), {row["trial_id"]: row for row in _rows(run.baselines)}
    along = [name for name in baselines if chance.along_front(name)]
    timed = [row for name, row in baselines.items() if name not in along]
    chosen = next((row for row in front if row["trial_id"] == str(run.chosen.get("trial_id"))), None)
    values = dict(_front_values(run, row) for row in front)
    objectives = run.front[[f"valid_{run.quality}", "valid_filter_rate"]]
    return {
        "title": str(run.spec.get("name", "search")),
        "split": run.split,
        "split_word": findings.SPLIT_WORDS[run.split],
        "quality": METRIC_WORDS[run.quality],
        "chosen": chosen,
        "headline": _headline(run, chosen, values, baselines),
        "findings": findings.findings(chosen, baselines, front, run.split) if chosen else [],
        "saved": findings.saving(chosen, baselines.get("all"), run.split) if chosen else None,
        "warnings": _warnings(run),
        "parameters": run.parameters,
        "parameter_values": values,
        "front": front,
        "hypervolume": hypervolume(objectives),
        "baselines": list(baselines.values()),
        "baseline_words": BASELINES | dict.fromkeys(along, ALONG),
        "has_chance": any(row["test_vs_random_hr_at_10"] is not None for row in front),
        "filters": run.filters,
        "rehearsal": _rehearsal(run.provenance.get("rehearsal") or {}),
        "choice": run.chosen,
        "adapt": yaml.safe_dump(run.chosen.get("adapt", {}), sort_keys=False).strip(),
        "effects": _effects(run),
        "chance": min(1.96 / math.sqrt(max(len(run.finished) - 1, 1)), 1.0),
        "counts": _counts(run),
        "failures": _failures(run.trials),
        "timings": _timings(run.split, [*timed, *([chosen] if chosen else [])]),
        "trial_seconds": {name: float(run.finished[name].sum()) for name in ("seconds", *SECONDS)},
        "phases": {name: s for name, s in (run.provenance.get("seconds") or {}).items() if s is not None},
        "provenance": _provenance(run.provenance),
        "command": str(run.provenance.get("command", "")),
    }


def _rehearsal(record: dict[str, Any]) -> str:
    """What validation means where trials were rehearsed; nothing where they ran on the validation split."""
    counts = record.get("samples") or {}
    if not {"train", "valid"} <= counts.keys():
        return ""
    return (
        f"Validation is a rehearsal here: trials and baselines ran on the {counts['valid']:,} samples before test, "
        f"from a checkpoint trained on the {counts['train']:,} before those. Test has the one that was trained on more."
    )


def parameter_text(name: str, value: Any) -> str:
    """A parameter's value as people write it; an empty `top_k` is all items."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "all items" if name == "top_k" else "null"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and name == "top_k" else f"{value:.3g}"
    return str(value)


def _rows(frame: pd.DataFrame) -> list[Row]:
    rows = frame.to_dict("records")
    plain = [{str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]
    return [{**row, "on_test_front": str(row.get("on_test_front")).lower() == "true"} for row in plain]


def _front_values(run: Run, row: Row) -> tuple[str, list[str]]:
    return row["trial_id"], [parameter_text(name, row[name]) for name in run.parameters]


def _headline(run: Run, chosen: Row | None, values: dict[str, list[str]], baselines: dict[str, Row]) -> list[str]:
    if chosen is None:
        return [_why_no_front(run.trials)]
    pairs = zip(run.parameters, values[chosen["trial_id"]], strict=True)
    text = ", ".join(f"{name} {value}" for name, value in pairs)
    return findings.headline(chosen, text, baselines.get("all"), run.split)


def _why_no_front(trials: pd.DataFrame) -> str:
    nothing = "so there is no front and nothing to recommend."
    if trials.empty or not (trials["state"] == "FAILED").all() or "error" not in trials:
        return f"No trial finished, {nothing}"
    cause, count = frequent_reason(trials["error"])
    return f"Every trial failed, {count} of {len(trials)} with: {cause}; {nothing}"


def _warnings(run: Run) -> list[str]:
    warnings = []
    if (run.provenance.get("search") or {}).get("interrupted"):
        warnings.append("The search was interrupted: this report covers the trials that had ended by then.")
    if len(run.front) and run.split == "valid":
        warnings.append(
            "Not measured on test. All numbers are from validation, where the configurations were selected, so they "
            "are optimistic; there are no intervals and no p-values."
        )
    recorded = (run.provenance.get("search") or {}).get("finished")
    if recorded is not None and recorded != len(run.finished):
        warnings.append(
            f"The files disagree: provenance.json counts {recorded} finished trials, trials.csv {len(run.finished)}."
        )
    return warnings


def _effects(run: Run) -> list[dict[str, Any]]:
    """Each searched parameter's range and its Spearman correlation with both objectives over the finished trials."""
    effects = []
    for name in run.parameters:
        x = _axis(run, name)
        quality, rate = (_spearman(x, run.finished[objective]) for objective in (run.quality, "filter_rate"))
        effects.append({"name": name, "range": _range(run.spec["space"][name]), "quality": quality, "rate": rate})
    return effects


def _axis(run: Run, name: str) -> pd.Series:
    """A parameter's values for a plot: `top_k: null` looks at all items, so there it is their number."""
    x = run.finished[name]
    if not pd.api.types.is_numeric_dtype(x):
        return x.replace("", "null")
    return x.fillna(float(run.items)) if name == "top_k" and run.items else x


def _spearman(x: pd.Series, y: pd.Series) -> float | None:
    if not pd.api.types.is_numeric_dtype(x) or x.nunique() < 2 or y.nunique() < 2:
        return None
    known = x.notna() & y.notna()
    return float(np.corrcoef(x[known].rank(), y[known].rank())[0, 1])


def _range(entry: Any) -> str:
    if isinstance(entry, dict) and entry.get("choices") is not None:
        return "one of " + ", ".join(parameter_text("", choice) for choice in entry["choices"])
    if isinstance(entry, dict) and "low" in entry and "high" in entry:
        return f"{entry['low']} to {entry['high']}" + (", log scale" if entry.get("log") else "")
    return str(entry)


def _parameter_plots(run: Run) -> list[Markup]:
    if run.finished.empty:
        return []
    front_ids = set(run.front["trial_id"])
    return [
        Markup(plots.parameter_html(run.finished, name, _axis(run, name), _is_log(run, name), front_ids, run.quality))
        for name in run.parameters
    ]


def _is_log(run: Run, name: str) -> bool:
    entry = run.spec["space"][name]
    return isinstance(entry, dict) and bool(entry.get("log"))


def _counts(run: Run) -> dict[str, int]:
    requested = (run.provenance.get("search") or {}).get("requested")
    states = dict.fromkeys(("FINISHED", "FAILED", "KILLED"), 0) | run.trials["state"].value_counts().to_dict()
    counts = {str(state).lower(): int(count) for state, count in states.items()}
    return counts if requested is None else {"requested": int(requested), **counts}


def _failures(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """The trials that ended without a result, grouped by state and reason."""
    ended = trials[trials["state"].isin(["FAILED", "KILLED"])]
    reasons = ended["error"].map(reason) if "error" in ended else pd.Series("no reason recorded", index=ended.index)
    groups = ended.groupby([ended["state"], reasons], sort=False)["trial_id"]
    return [{"state": state, "reason": cause, "trials": list(ids)} for (state, cause), ids in groups]


def _timings(split: Split, rows: list[Row]) -> list[dict[str, Any]]:
    """Seconds of each part of a measurement, `other` is what is none of the three (ranking, batching)."""
    timings = []
    for row in rows:
        parts = {name.removesuffix("_seconds"): row[f"{split}_{name}"] for name in SECONDS}
        total = row[f"{split}_seconds"]
        if total is not None and None not in parts.values():
            other = max(total - sum(parts.values()), 0.0)
            timings.append({"name": row["trial_id"], **parts, "other": other, "total": total})
    return timings


def _provenance(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of everything recorded; what is not recorded is left out."""
    git, data, trained = (record.get(name) or {} for name in ("git", "data", "checkpoint"))
    changed = " with uncommitted changes" if git.get("dirty") else ""
    valid = (trained.get("valid") or {}).items()
    rows = [
        *((label, str(record.get(label) or "").replace("T", " ")) for label in ("started", "finished")),
        ("code", f"commit {git['commit']}{changed}" if git.get("commit") else None),
        ("data", data.get("source")),
        ("data size", _joined(f"{data[name]:,} {name}" for name in ("users", "items", "interactions") if name in data)),
        ("samples", _joined(f"{name} {count:,}" for name, count in (data.get("samples") or {}).items())),
        ("data sha256", data.get("sha256")),
        ("checkpoint", trained.get("path")),
        ("checkpoint sha256", trained.get("sha256")),
        ("trained epochs", trained.get("epochs")),
        ("checkpoint on validation", _joined(f"{METRIC_WORDS.get(name, name)} {value:.4f}" for name, value in valid)),
        ("rehearsal checkpoint", (record.get("rehearsal") or {}).get("path")),
        ("search", _how(record.get("search") or {})),
        ("hardware", _machine(record.get("hardware") or {})),
        ("versions", _joined(f"{name} {version}" for name, version in (record.get("versions") or {}).items())),
    ]
    return [(label, str(value)) for label, value in rows if value not in (None, "")]


def _how(search: dict[str, Any]) -> str:
    parallel = _counted(search.get("concurrency"), "trial at a time", "trials at a time")
    threads = _counted(search.get("threads_per_trial"), "thread each", "threads each")
    return _joined([search.get("sampler"), parallel, threads])


def _machine(hardware: dict[str, Any]) -> str:
    memory = hardware.get("memory_gib") and f"{hardware['memory_gib']:g} GiB memory"
    gpus = ", ".join(hardware["gpus"]) or "no GPU" if "gpus" in hardware else None
    return _joined([hardware.get("cpu"), _counted(hardware.get("cores"), "core", "cores"), memory, gpus])


def _counted(number: int | None, one: str, many: str) -> str | None:
    return None if number is None else f"{number} {one if number == 1 else many}"


def _joined(words: Iterable[str | None]) -> str:
    return ", ".join(word for word in words if word)


def _write(path: Path, template: str, context: dict[str, Any]) -> None:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(
        hr=findings.hit_rate,
        pct=findings.percent,
        signed=findings.signed,
        sig=findings.significant,
        rho=findings.correlation,
        cell=_cell,
    )
    path.write_text(environment.get_template(template).render(context), encoding="utf-8")


def _cell(text: Any) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())
