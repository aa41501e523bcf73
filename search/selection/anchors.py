"""The fixed configurations that a search measures before its trials: its anchors.

They bound the front, are known to the sampler, and are not measured again as baselines. A searched field of the
adaptation has its neutral value in them, since no trial has shown a better one yet.
"""

from dataclasses import asdict

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search.baselines import ANCHOR_RATES, adapting_like, anchor_configs
from search.records.trial import Anchor
from search.selection.paired import Outcomes
from search.spec import Spec, neutral_config


def configs(spec: Spec, n_items: int) -> dict[str, AdaptConfig]:
    """The anchors by name; without random skipping where `search.random_points` is 0."""
    base = adapting_like(neutral_config(spec), spec.adapt, spec.space)
    return anchor_configs(base, n_items, ANCHOR_RATES if spec.search.random_points else ())


def anchor(name: str, config: AdaptConfig, measurement: Measurement | None) -> Anchor:
    """The record of a measurement; None where it failed."""
    if measurement is None:
        return Anchor(name, asdict(config), {})
    outcomes = Outcomes.of(measurement.ranks, measurement.admitted).text()
    return Anchor(name, asdict(config), measurement.metrics(), outcomes)
