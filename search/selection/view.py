"""The columns of a result file's row that reports quote, and differences between two rows.

A row is a dict of one line of pareto.csv or baselines.csv; a value that was not measured is None.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from etarec.metrics import QualityMetric, label
from search.numbers import higher_or_lower, p_value, percent, score, signed
from search.selection import chance
from search.selection.differences import Kind, difference_columns, interval_columns

Row = Mapping[str, Any]
Split = Literal["test", "valid"]

SPLIT_WORDS: dict[Split, str] = {"test": "test", "valid": "validation"}
LEVEL = 0.05  # of a corrected p-value


class Difference(NamedTuple):
    """One score minus another, with its 95% interval and p-values where they were measured."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    def reversed(self) -> "Difference":
        """The second score minus the first."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return Difference(-self.value, low, high, self.p, self.p_holm)

    def relative(self, reference: float) -> "Difference":
        """The difference as a share of a score."""
        if not reference:
            return Difference(0.0)
        value, low, high = (None if bound is None else bound / reference for bound in self[:3])
        assert value is not None
        return Difference(value, low, high, self.p, self.p_holm)

    @property
    def measured(self) -> bool:
        return self.low is not None and self.high is not None

    @property
    def higher(self) -> bool:
        """Whether the interval lies above 0."""
        return self.low is not None and self.low > 0

    @property
    def lower(self) -> bool:
        """Whether the interval lies below 0."""
        return self.high is not None and self.high < 0

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.higher or self.lower

    @property
    def survives_holm(self) -> bool:
        """Whether the p-value stays below 0.05 after Holm's correction."""
        return self.p_holm is not None and self.p_holm < LEVEL

    @property
    def evidence(self) -> str:
        """Interval and p-value in parentheses, with a blank in front; empty where they were not measured."""
        if not self.measured:
            return ""
        p = "" if self.p is None else f", p {p_value(self.p)}"
        return f" (95% interval {signed(self.low)} to {signed(self.high)}{p})"

    @property
    def percents(self) -> str:
        """A relative difference's interval in parentheses, with a blank in front: (95%: -0.1% to 0.7%)."""
        return f" (95%: {percent(self.low)} to {percent(self.high)})" if self.measured else ""

    def __str__(self) -> str:
        """0.0012 higher (95% interval +0.0003 to +0.0021, p = .004)"""
        return higher_or_lower(self.value) + self.evidence


@dataclass(frozen=True)
class View:
    """The columns that a report quotes: one quality metric on one split."""

    split: Split
    metric: QualityMetric

    @property
    def word(self) -> str:
        return SPLIT_WORDS[self.split]

    @property
    def label(self) -> str:
        return label(self.metric)

    @property
    def column(self) -> str:
        return f"{self.split}_{self.metric}"

    def measured(self, row: Row | None) -> bool:
        return row is not None and row.get(self.column) is not None

    def quality(self, row: Row) -> float:
        return float(row[self.column])

    def filter_rate(self, row: Row) -> float:
        return float(row[f"{self.split}_filter_rate"])

    def skipped(self, row: Row) -> float:
        """The share of skipped passes among those that can be computed: samples with nothing to learn have none."""
        return chance.gate_rate({name: row.get(f"{self.split}_{name}") or 0.0 for name in chance.RATE_COLUMNS})

    def computing(self, row: Row) -> float | None:
        """The arithmetic of learning relative to adapting on every sample."""
        return row.get(f"{self.split}_arithmetic")

    def interval(self, row: Row) -> str:
        """The row's interval in parentheses, with a blank in front; empty where it was not measured."""
        low, high = (row.get(column) for column in interval_columns(self.metric))
        return "" if self.split == "valid" or low is None else f" (95% interval {score(low)} to {score(high)})"

    def difference(self, row: Row, other: Row, kind: Kind) -> Difference:
        """`row` minus `other`; interval and p-values are those that `row` holds for `kind`."""
        value = self.quality(row) - self.quality(other)
        if self.split == "valid":
            return Difference(value)
        return Difference(value, *(row.get(column) for column in difference_columns(kind, self.metric)[1:]))

    def recorded(self, row: Row, kind: Kind) -> Difference | None:
        """The difference of `kind` that `row` holds; None where it holds none."""
        value, *evidence = (row.get(column) for column in difference_columns(kind, self.metric))
        return None if value is None or self.split == "valid" else Difference(value, *evidence)
