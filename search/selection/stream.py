"""stream.csv: quality and filter rate along the test stream of the chosen point, no adaptation and adapting on all."""

import pandas as pd

from etarec.metrics import QualityMetric
from search.baselines import ALL, NONE
from search.selection.front import Selection


def along(selection: Selection, quality: QualityMetric) -> pd.DataFrame:
    """A row per configuration and segment of the stream: samples served at its end, and the segment's own means."""
    fixed = [point for point in selection.baselines if point.name in (NONE, ALL)]
    points = [*([selection.chosen] if selection.chosen else []), *fixed]
    curves = [(point.name, point.test.curve(quality)) for point in points if point.test is not None]
    if not curves:
        return pd.DataFrame(columns=["configuration", "samples", quality, "filter_rate"])
    return pd.concat([pd.DataFrame({"configuration": name, **curve}) for name, curve in curves])
