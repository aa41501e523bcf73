"""The configurations of a search's trials, and their seeds."""

import hashlib
import json
from dataclasses import asdict
from typing import Any

from etarec.config import OPENING_FIELDS, AdaptConfig
from search.baselines import PUBLISHED_TOP_K
from search.fields import value_of, with_values
from search.spec.dimension import Dimension, Value
from search.spec.space import settled
from search.spec.spec import Spec


def canonical(config: AdaptConfig) -> str:
    """A configuration as JSON with sorted keys; equal configurations have equal texts."""
    fields = asdict(config)
    if not config.gate_options:  # texts, and with them seeds, of configurations without a gate of the user's own
        del fields["gate_options"]
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)


def trial_seed(seed: int, config: AdaptConfig) -> int:
    """The seed of a measurement, 0 to 2^31 - 1, from the search's seed and the configuration alone."""
    digest = hashlib.sha256(f"{seed}:{canonical(config)}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def trial_config(spec: Spec, parameters: dict[str, Any]) -> AdaptConfig:
    """The configuration of one trial. Raises ValueError unless `parameters` are the searched fields, all of them."""
    if parameters.keys() != spec.space.keys():
        raise ValueError(f"expected values for {sorted(spec.space)}, given {sorted(parameters)}")
    return with_values(spec.adapt, parameters)


def first_points(spec: Spec) -> list[dict[str, Any]]:
    """Parameters of the first trials of every search.

    These are the gates of the ETA-Rec report (K = 10 and K = 50), and the gate opened as far as the space allows, which
    is the end of the front next to adapting on every sample. Points outside the space are left out. Other searched
    fields have AdaptConfig's default, or the middle of their dimension.
    """
    gates = [_published_gate(top_k) for top_k in PUBLISHED_TOP_K]
    opened = {key: _opened(spec, key) for key in OPENING_FIELDS if key in spec.space}
    gates += [opened] if opened else []
    points: list[dict[str, Any]] = []
    for gate in gates:
        values = {key: gate[key] if key in gate else _neutral(key, dim) for key, dim in spec.space.items()}
        point = settled(spec.space, spec.adapt, values)
        if point not in points and all(dim.contains(values[key]) for key, dim in spec.space.items()):
            points.append(point)
    return points


def neutral_config(spec: Spec) -> AdaptConfig:
    """The configuration in which every searched field has AdaptConfig's default, or the middle of its dimension."""
    values = {key: _neutral(key, dimension) for key, dimension in spec.space.items()}
    return with_values(spec.adapt, settled(spec.space, spec.adapt, values))


def _published_gate(top_k: int) -> dict[str, Any]:
    """The searched values of the published gate."""
    published = asdict(AdaptConfig.published(top_k))
    return {key: published[key] for key in ("top_k", "entropy_quantile", "cosine_threshold")}


def _opened(spec: Spec, key: str) -> Value:
    """The value with which the gate admits the most."""
    dimension = spec.space[key]
    if key == "cosine_threshold" and dimension.contains(None):  # null: no test of redundancy
        return None
    values = [value for value in dimension.choices or (dimension.low, dimension.high) if value is not None]
    turned = key == "entropy_quantile" and spec.adapt.admit == "uncertain"
    return min(values) if turned else max(values)


def _neutral(key: str, dimension: Dimension) -> Value:
    default: Value = value_of(AdaptConfig(), key)
    return default if dimension.contains(default) else dimension.middle()
