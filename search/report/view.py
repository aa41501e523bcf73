"""The columns of a result file's row that a report quotes, and differences between two rows.

A row is a dict of one line of pareto.csv or baselines.csv; a value that was not measured is None.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from etarec.metrics import QualityMetric, label
from search.report.numbers import higher_or_lower, score, signed, significant
from search.selection.differences import Kind, difference_columns, interval_columns

Row = dict[str, Any]
Split = Literal["test", "valid"]

SPLIT_WORDS: dict[Split, str] = {"test": "test", "valid": "validation"}


class Difference(NamedTuple):
    """One score minus another, with its 95% interval and p-value where they were measured."""

    value: float
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def reversed(self) -> "Difference":
        """The second score minus the first."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return Difference(-self.value, low, high, self.p)

    @property
    def measured(self) -> bool:
        return None not in (self.low, self.high, self.p)

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def evidence(self) -> str:
        """Interval and p-value in parentheses, with a blank in front; empty where they were not measured."""
        if not self.measured:
            return ""
        return f" (95% interval {signed(self.low)} to {signed(self.high)}, p = {significant(self.p)})"

    def __str__(self) -> str:
        """0.0012 higher (95% interval +0.0003 to +0.0021, p = 0.004)"""
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

    def quality(self, row: Row) -> float:
        return float(row[self.column])

    def filter_rate(self, row: Row) -> float:
        return float(row[f"{self.split}_filter_rate"])

    def interval(self, row: Row) -> str:
        """The row's interval in parentheses, with a blank in front; empty where it was not measured."""
        low, high = (row.get(column) for column in interval_columns(self.metric))
        return "" if self.split == "valid" or low is None else f" (95% interval {score(low)} to {score(high)})"

    def difference(self, row: Row, other: Row, kind: Kind) -> Difference:
        """`row` minus `other`; interval and p-value are those that `row` holds for `kind`."""
        value = self.quality(row) - self.quality(other)
        if self.split == "valid":
            return Difference(value)
        return Difference(value, *(row.get(column) for column in difference_columns(kind, self.metric)[1:4]))
