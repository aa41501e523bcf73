"""Rows of result files by hand: a front's points and baselines on test, with paired differences."""

from typing import Any

from search.selection.differences import TO_ALL, TO_CHOSEN, TO_NONE, TO_RANDOM, Kind, difference_columns
from search.selection.view import View

VIEW = View("test", "hr_at_10")


def row(name: str, quality: float | None, rate: float, view: View = VIEW, **more: Any) -> dict[str, Any]:
    places = {f"{split}_filter_rate": rate for split in ("valid", "test")}
    qualities = {f"{split}_{view.metric}": quality for split in ("valid", "test")}
    return {"trial_id": name, **qualities, **places, "on_test_front": True, **more}


def gap(kind: Kind, value: float, reach: float, p_holm: float = 1.0, view: View = VIEW) -> dict[str, float]:
    """The columns of a difference whose interval reaches as far to both sides."""
    numbers = (value, value - reach, value + reach, 0.01, p_holm)
    return dict(zip(difference_columns(kind, view.metric), numbers, strict=True))


def measured(
    none: float | None,
    everything: float | None,
    random: float | None,
    chosen: float,
    reach: float = 0.0005,
    rate: float = 0.5,
    view: View = VIEW,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The chosen row and the baselines that have a quality; all paired intervals reach as far to both sides."""
    values = {"none": none, "all": everything, "random": random, "trial-0001": chosen}
    rates = {"none": 1.0, "all": 0.0, "random": rate, "trial-0001": rate}
    references: dict[Kind, str] = {TO_ALL: "all", TO_CHOSEN: "trial-0001", TO_NONE: "none"}
    rows = {name: row(name, value, rates[name], view) for name, value in values.items() if value is not None}
    for name, one in rows.items():
        for kind, reference in references.items():
            other = values[reference]
            if other is not None and view.split == "test":
                mine = values[name]
                assert mine is not None
                one.update(gap(kind, mine - other, reach if name != reference else 0.0, view=view))
    if random is not None:
        rows["trial-0001"].update(gap(TO_RANDOM, chosen - random, reach, view=view))
    return rows.pop("trial-0001"), rows
