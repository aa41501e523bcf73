"""The YAML experiment file as a validated object.

`load` reads the file, applies `--set`, checks everything and returns a frozen `Spec`; all problems end in one
UserError.
"""

from search.spec.checks import (
    check_against_data,
    check_measured,
    check_shallow_steps,
    check_something_to_learn,
    check_top_k,
)
from search.spec.configurations import canonical, first_points, neutral_config, trial_config, trial_seed
from search.spec.loading import load
from search.spec.own_code import class_paths
from search.spec.section import (
    ChooseConfig,
    Objective,
    PruneConfig,
    SamplerName,
    SearchConfig,
    objectives_of,
    quality_of,
    values_of,
)
from search.spec.spec import Spec, as_dict, flat, to_yaml

__all__ = [
    "ChooseConfig",
    "Objective",
    "PruneConfig",
    "SamplerName",
    "SearchConfig",
    "Spec",
    "as_dict",
    "canonical",
    "check_against_data",
    "check_measured",
    "check_shallow_steps",
    "check_something_to_learn",
    "check_top_k",
    "class_paths",
    "first_points",
    "flat",
    "load",
    "neutral_config",
    "objectives_of",
    "quality_of",
    "to_yaml",
    "trial_config",
    "trial_seed",
    "values_of",
]
