"""The fixed configurations that a search is compared with: their names, configurations and descriptions.

A baseline adapts as the spec says. Searched fields of the adaptation have the values of the front's best point, or of
the chosen point in `random`. Its gate is its own. Beside the baselines that a spec lists, random skipping is measured
at the filter rates of other points of the front, under names such as `random 25%`.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Final, Literal, get_args

from etarec.config import AdaptConfig
from search.fields import of_gate

BaselineName = Literal["none", "all", "random", "naive", "published"]
GateBaseline = Literal["naive", "published"]  # baselines that differ by a gate of their own
FIXED_GATES: tuple[GateBaseline, ...] = get_args(GateBaseline)
NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
NONE: Final = "none"
ALL: Final = "all"
RANDOM: Final = "random"
PUBLISHED: Final = "published"

PUBLISHED_TOP_K = (10, 50)  # K of the two gates in the ETA-Rec report; the baseline is the second
NAIVE_SHARE_OF_LN_V = 0.4
ANCHOR_RATES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of random skipping, measured before the trials


def adapting_like(chosen: AdaptConfig, fixed: AdaptConfig, searched: Iterable[str]) -> AdaptConfig:
    """`fixed` with the values of `chosen` for the searched fields of the adaptation; the gate stays that of `fixed`."""
    return replace(fixed, **{key: getattr(chosen, key) for key in searched if not of_gate(key)})


def baseline_config(name: BaselineName, base: AdaptConfig, *, n_items: int, random_rate: float = 0.0) -> AdaptConfig:
    """The baseline `name` with the adaptation of `base`.

    Args:
        name: of the baseline.
        base: what is adapted, and how; its gate is replaced.
        n_items: size of the catalogue without padding.
        random_rate: share of samples that `random` skips.
    """
    match name:
        case "none" if base.target == "state":  # the model without its inner loop, which target none would run
            return at_random(base, 1.0)
        case "none":
            return replace(base, target="none")
        case "all":
            return replace(base, gate="open", gate_options={})
        case "random":
            return at_random(base, random_rate)
        case "naive":
            threshold = NAIVE_SHARE_OF_LN_V * math.log(n_items)
            return replace(AdaptConfig.published(**asdict(base)), top_k=None, entropy_threshold=threshold)
        case "published":
            return replace(AdaptConfig.published(**asdict(base)), top_k=PUBLISHED_TOP_K[-1])


def anchor_configs(base: AdaptConfig, n_items: int, rates: Iterable[float]) -> dict[str, AdaptConfig]:
    """The configurations that a search measures before its trials, by name: `all`, random skipping and `none`.

    The costliest come first, so that they are recorded in the order in which they end.
    """
    between = {random_at(rate): at_random(base, rate) for rate in rates}
    return {
        ALL: baseline_config(ALL, base, n_items=n_items),
        **between,
        NONE: baseline_config(NONE, base, n_items=n_items),
    }


def at_random(base: AdaptConfig, rate: float) -> AdaptConfig:
    """Random skipping at a rate, with the adaptation of `base`."""
    return replace(base, gate="random", gate_options={}, random_rate=rate)


def random_at(rate: float) -> str:
    """The name of random skipping at this rate on validation: random 25%."""
    return f"{RANDOM} {rate:.0%}"


def along_front(name: str) -> bool:
    """Whether the name is one of `random_at`."""
    return name.startswith(f"{RANDOM} ")


def description(name: str) -> str:
    """A description of the baseline of this name; empty for names that are no baseline's."""
    return "random skipping" if along_front(name) else _DESCRIPTIONS.get(name, "")


def _published_gate() -> str:
    gate = AdaptConfig.published(PUBLISHED_TOP_K[-1])
    return f"K = {gate.top_k}, quantile {gate.entropy_quantile:g}, cosine threshold {gate.cosine_threshold:g}"


_DESCRIPTIONS: dict[str, str] = {
    "none": "the frozen model, no backward pass",
    "all": "adapts on every sample that its objective can use, no gate",
    "random": "random skipping of as many passes as the chosen configuration skips, on each split",
    "naive": f"the published gate on the entropy over all items, with E0 = {NAIVE_SHARE_OF_LN_V:g} ln V",
    "published": f"the published gate: {_published_gate()}",
}
