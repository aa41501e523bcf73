"""The section `search` of an experiment file: how to search, and how one configuration is chosen."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from etarec.config import Count, NonNegative, Positive, SeedInt, Share
from etarec.document import quoted
from etarec.metrics import COST, QUALITY_METRICS, QualityMetric
from search.spec.constraint import parsed

STRICT = ConfigDict(extra="forbid", strict=True)

Objective = Literal[QualityMetric, "filter_rate", "cost"]
ChoiceRule = Literal["tolerance", "constraint", "knee", "weights"]
SamplerName = Literal["auto", "tpe", "gp", "nsga2", "sobol", "random", "grid"]


def _quality_and_saving(objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
    qualities = set(objectives) & set(QUALITY_METRICS)
    saves = len(set(objectives)) > len(qualities) > 0
    if not 2 <= len(objectives) <= 3 or len(set(objectives)) < len(objectives) or not saves:
        expected = f"at least one of {', '.join(QUALITY_METRICS)} and filter_rate or {COST} or both"
        raise ValueError(f"given {quoted(objectives)}, expected two or three: {expected}")
    return objectives


def _constraints(texts: dict[str, str]) -> dict[str, str]:
    parsed(texts)
    return texts


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ChooseConfig:
    """The rule that chooses one configuration from the front."""

    rule: ChoiceRule = Field(
        default="tolerance",
        description="tolerance: the highest filter rate whose quality is within `tolerance` of the best and not "
        "significantly below adapting on everything; constraint: the highest that meets search.constraints; knee: the "
        "point furthest above the line between the front's ends; weights: the highest weighted sum",
    )
    weights: Annotated[tuple[NonNegative, ...], Field(min_length=2, max_length=3)] = Field(
        default=(1.0, 0.1),
        description="by rule `weights`: of each quality, as a share of that of adapting on everything, then of the "
        "filter rate, then of the saved cost, as far as they are objectives",
    )
    tolerance: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.005, description="share of the best quality that may be given up for a higher filter rate"
    )
    min_filter_rate: Share = Field(default=0.0, description="smallest filter rate to choose, where a point reaches it")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PruneConfig:
    """The rule that ends a trial early because it cannot win."""

    z: Positive | None = Field(
        default=3.0,
        description="end a trial once a configuration measured before is better by this many paired standard errors in "
        "quality and in filter rate; null: never",
    )
    begin: Share = Field(default=0.1, description="share of the stream before which no trial ends")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SearchConfig:
    """The course of a search; except for `seed`, no field changes the measurement of a configuration."""

    trials: Count | Literal["auto"] = Field(
        default="auto",
        description="number of configurations to measure; auto: from the searched fields and the trials at once",
    )
    seed: SeedInt = Field(default=0, description="seed of the sampler and, with its configuration, of each trial")
    max_minutes: Positive | None = Field(
        default=None, description="minutes after which no other trial begins; the search then goes on with test"
    )
    until: Literal["trials", "converged"] = Field(
        default="trials",
        description="trials: measure all of them; converged: stop once sampler `auto` expects too little of another",
    )
    converged_below: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.01, description="by `until: converged`: the expected gain of a trial, as a share of the area reached"
    )
    objectives: Annotated[tuple[Objective, ...], AfterValidator(_quality_and_saving)] = Field(
        default=("hr_at_10", "filter_rate"),
        description="two or three: quality metrics and the filter rate, which are maximised, and the measured `cost` "
        "of serving, relative to adapting on everything, which is minimised; choice and verdict go by the first of the "
        "quality metrics",
    )
    cost_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="share of validation, from its beginning, that is served to measure `cost`"
    )
    sampler: SamplerName = Field(
        default="auto",
        description="what suggests configurations; auto: a Gaussian process and the expected gain of the front's area, "
        "beyond 200 results `tpe` that avoids what is worse than no adaptation; grid: all values in turn; the others "
        "are Optuna's",
    )
    concurrency: Count | Literal["auto"] = Field(
        default="auto", description="trials at the same time; auto: as many as the resources allow"
    )
    cpus_per_trial: Positive | Literal["auto"] = Field(
        default="auto", description="CPU cores of a trial, and its threads; auto: from the machine alone"
    )
    gpus_per_trial: NonNegative | Literal["auto"] = Field(
        default="auto", description="GPUs of a trial; below 1, trials share a GPU; auto: as memory and cores allow"
    )
    cuda_mps: bool = Field(
        default=True,
        description="run trials side by side on a GPU by CUDA's Multi-Process Service, where the machine has it; "
        "otherwise trials take turns on the GPU",
    )
    prune: PruneConfig = Field(
        default_factory=PruneConfig,
        description="early end of trials that cannot win; not where the cost is an objective",
    )
    constraints: Annotated[dict[str, str], AfterValidator(_constraints)] = Field(
        default_factory=dict,
        description="bounds on results, by metric, that the sampler aims at and the front's points meet: a number, "
        'or a multiple of an anchor\'s result, such as ">= 0.98 * all"',
    )
    front: Literal["measured", "modelled"] = Field(
        default="measured",
        description="the quality that front, constraints and choice use; measured: each trial's own measurement; "
        "modelled: a Gaussian process's prediction from all trials, less subject to the luck of single measurements",
    )
    retest: Literal["front", "all"] = Field(
        default="front",
        description="front points to measure on test; front: one of each group that validation cannot tell apart; all: "
        "every one",
    )
    choose: ChooseConfig = Field(default_factory=ChooseConfig, description="choice from the front")
    random_points: Annotated[int, Field(ge=0, le=100)] = Field(
        default=8,
        description="points of the front, beside the chosen one, that are compared with random skipping at their own "
        "filter rate; 0: none",
    )
    bootstrap_replicates: Count = Field(
        default=2000, description="bootstrap resamples of the users for each interval on test"
    )
    max_failures_in_a_row: Count = Field(
        default=10, description="stop the search after this many failed trials in a row"
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=2, description="repetitions of a trial whose process or node died, or whose memory ran out"
    )
    trial_timeout: Positive | None = Field(default=None, description="seconds after which a trial fails")

    @property
    def budget(self) -> int:
        """`trials` as a number, which the plan has settled. Raises ValueError while it is `auto`."""
        if self.trials == "auto":
            raise ValueError("search.trials: given auto, expected a number, which the plan of the search settles")
        return self.trials

    @property
    def most_trials(self) -> float:
        """The largest number of trials, infinite while it is `auto`."""
        return math.inf if self.trials == "auto" else self.trials

    @property
    def quality(self) -> QualityMetric:
        """The first quality metric among the objectives."""
        return quality_of(self.objectives)

    @property
    def saving(self) -> Literal["filter_rate", "cost"]:
        """The objective that the choice weighs against the quality: the cost where it is one, else the filter rate."""
        return COST if COST in self.objectives else "filter_rate"

    @property
    def qualities(self) -> tuple[QualityMetric, ...]:
        """The quality metrics among the objectives, in their order."""
        return tuple(metric for name in self.objectives for metric in QUALITY_METRICS if metric == name)

    @property
    def followed(self) -> bool:
        """Whether every objective can be followed along the stream; the cost is one number for a whole trial."""
        return COST not in self.objectives

    @property
    def measures_cost(self) -> bool:
        return COST in self.objectives or COST in self.constraints

    @model_validator(mode="after")
    def _weighted(self) -> Self:
        weights, count = self.choose.weights, len(self.objectives)
        if self.choose.rule == "weights" and len(weights) != count:
            raise ValueError(f"choose.weights: given {len(weights)}, expected one for each of the {count} objectives")
        return self


def quality_of(objectives: Sequence[str]) -> QualityMetric:
    """The first quality metric among the objectives of a search."""
    return next(metric for name in objectives for metric in QUALITY_METRICS if metric == name)


def objectives_of(search: SearchConfig, metrics: Mapping[str, float]) -> tuple[float, ...]:
    """The objectives' values among a trial's metrics, in the order of `search.objectives`; larger is better."""
    return values_of(search.objectives, metrics)


def values_of(objectives: Sequence[str], metrics: Mapping[str, float]) -> tuple[float, ...]:
    """The values of these objectives among metrics, the cost with its sign turned, so that larger is better."""
    return tuple(-metrics[name] if name == COST else metrics[name] for name in objectives)
