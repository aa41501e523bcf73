"""provenance.json as labels and values for people."""

from collections.abc import Iterable
from typing import Any

from etarec.metrics import label


def labelled(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of each recorded item, in the order of the report."""
    git, data, trained = (record.get(name) or {} for name in ("git", "data", "checkpoint"))
    changed = " with uncommitted changes" if git.get("dirty") else ""
    valid = (trained.get("valid") or {}).items()
    rows = [
        *((moment, str(record.get(moment) or "").replace("T", " ")) for moment in ("started", "finished")),
        ("code", f"commit {git['commit']}{changed}" if git.get("commit") else None),
        ("data", data.get("source")),
        ("data size", _joined(f"{data[name]:,} {name}" for name in ("users", "items", "interactions") if name in data)),
        ("samples", _joined(f"{name} {count:,}" for name, count in (data.get("samples") or {}).items())),
        ("data sha256", data.get("sha256")),
        ("checkpoint", trained.get("path")),
        ("checkpoint sha256", trained.get("sha256")),
        ("trained epochs", trained.get("epochs")),
        ("checkpoint on validation", _joined(f"{label(name)} {value:.4f}" for name, value in valid)),
        ("rehearsal checkpoint", (record.get("rehearsal") or {}).get("path")),
        ("search", _how(record.get("search") or {})),
        ("started from", "; ".join((record.get("search") or {}).get("earlier") or ())),
        ("hardware", _machine(record.get("hardware") or {})),
        ("versions", _joined(f"{name} {version}" for name, version in (record.get("versions") or {}).items())),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


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
