"""The objectives that the verdict leaves out, because it weighs one quality metric against skipped passes."""

from collections.abc import Mapping, Sequence

from etarec.metrics import COST, label
from search.baselines import ALL
from search.numbers import percent, score
from search.selection.view import Row, View


def left_out(objectives: Sequence[str], view: View) -> list[str]:
    """The names of the objectives beside the quality metric of `view` and the filter rate."""
    return [name for name in objectives if name not in (view.metric, "filter_rate")]


def sentence(objectives: Sequence[str], chosen: Row | None, baselines: Mapping[str, Row], view: View) -> str:
    """A sentence on the chosen configuration in the objectives left out, compared with adapting on every sample.

    Empty if no objective is left out or no configuration was chosen.
    """
    names = left_out(objectives, view)
    if chosen is None or not names:
        return ""
    everything = baselines.get(ALL, {})
    texts = [_fares(name, chosen.get(f"{view.split}_{name}"), everything.get(f"{view.split}_{name}")) for name in names]
    found = " and ".join(filter(None, texts))
    words = f"This weighs {view.label} against skipped passes and leaves out {' and '.join(map(label, names))}"
    return f"{words}: {chosen['trial_id']} {found} on {view.word}." if found else f"{words}."


def _fares(name: str, mine: float | None, its: float | None) -> str:
    if mine is None:
        return ""
    if name == COST:
        return f"costs {percent(mine, 0)} of what adapting on every sample costs to serve"
    return f"has {label(name)} {score(mine)}" + ("" if its is None else f" (adapting on every sample {score(its)})")
