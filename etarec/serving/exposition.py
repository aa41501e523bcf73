"""The counts of a served recommender in Prometheus' text form (exposition format 0.0.4)."""

from collections.abc import Iterable, Mapping
from typing import Literal

from etarec.config import Reason
from etarec.serving.recommender import Recommender

Kind = Literal["counter", "gauge"]
COUNTERS = {
    "recommendations": "Users for whom items were recommended.",
    "observations": "Observations of known items.",
    "unknown_items": "Observations of items that the model does not know, which were left out.",
    "batches": "Batches that the adapter served.",
    "hits_at_10": "Samples whose item was among the first 10.",
    "fallbacks": "Times that the model went back to its checkpoint.",
}


def exposition(recommender: Recommender, seconds: Mapping[str, tuple[float, int]]) -> str:
    """All metrics as one text. seconds: of each route, the sum and the number of its calls."""
    counts = recommender.counts
    reasons = {f'reason="{reason.name.lower()}"': counts[reason.name.lower()] for reason in Reason}
    blocks = [_metric(f"{name}_total", "counter", about, {"": counts[name]}) for name, about in COUNTERS.items()]
    blocks += [
        _metric("samples_total", "counter", "Samples by what the gate decided.", reasons),
        _metric("passes_total", "counter", "Backward passes.", {"": recommender.adapter.learned.passes}),
        _metric("users", "gauge", "Histories in memory.", {"": len(recommender.users.by_token)}),
        _metric(
            "users_forgotten_total", "counter", "Histories that were forgotten.", {"": recommender.users.forgotten}
        ),
        _metric("waiting", "gauge", "Samples that wait for their batch.", {"": len(recommender.waiting)}),
    ]
    if recommender.guard and len(recommender.guard.adapted):
        guard = recommender.guard
        recent = {f'model="{name}"': _mean(h) for name, h in (("adapted", guard.adapted), ("frozen", guard.frozen))}
        blocks.append(_metric("recent_hit_rate", "gauge", "Hit rate on the guard's window.", recent))
    parts = {f'part="{part}"': total for part, total in recommender.seconds.items()}
    sums = {f'route="{route}"': total for route, (total, _) in seconds.items()}
    calls = {f'route="{route}"': count for route, (_, count) in seconds.items()}
    blocks += [
        _metric("compute_seconds_total", "counter", "CPU or GPU seconds of the adapter, by part.", parts),
        _metric("seconds_total", "counter", "Seconds in the model, by route.", sums),
        _metric("calls_total", "counter", "Calls, by route.", calls),
    ]
    return "".join(blocks)


def _metric(name: str, kind: Kind, about: str, values: Mapping[str, float]) -> str:
    lines = [f"# HELP etarec_{name} {about}", f"# TYPE etarec_{name} {kind}"]
    lines += [f"etarec_{name}{f'{{{labels}}}' if labels else ''} {value}" for labels, value in values.items()]
    return "\n".join(lines) + "\n"


def _mean(hits: Iterable[bool]) -> float:
    values = list(hits)
    return sum(values) / len(values)
