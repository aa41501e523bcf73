"""Every hyperparameter's default, legal range and meaning, once.

A field's constraint is its legal range; what a search covers of it is a line of the YAML file. The classes are
frozen and validate on construction, so `dataclasses.replace` cannot make an illegal configuration.
"""

from etarec.config.adapt import GATE_FIELDS, OPENING_FIELDS, SKIPPED, AdaptConfig, LearningConfig, Reason
from etarec.config.data import ColumnsConfig, DataConfig, OrderName, SimulationConfig, SplitName
from etarec.config.model import ModelConfig
from etarec.config.train import TrainConfig
from etarec.config.values import Count, NonNegative, Positive, SeedInt, Share

__all__ = [
    "GATE_FIELDS",
    "OPENING_FIELDS",
    "SKIPPED",
    "AdaptConfig",
    "ColumnsConfig",
    "Count",
    "DataConfig",
    "LearningConfig",
    "ModelConfig",
    "NonNegative",
    "OrderName",
    "Positive",
    "Reason",
    "SeedInt",
    "Share",
    "SimulationConfig",
    "SplitName",
    "TrainConfig",
    "UserError",
]


class UserError(Exception):
    """A problem that the user can fix: shown as one message without a traceback, with exit status 2."""
