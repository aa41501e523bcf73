"""The places of measurements and the look of a fragment."""

import pandas as pd
import plotly.graph_objects as go

from search.report import plots


def test_bounds_that_miss_their_point_by_rounding_reach_nowhere():
    frame = pd.DataFrame({"trial_id": ["all"], "test_hr_at_10": [0.0894], "test_filter_rate": [0.0]}).assign(
        test_hr_at_10_low=0.0894 + 1e-16, test_hr_at_10_high=0.0894 - 1e-16
    )
    assert plots.positions(frame, "test_", "hr_at_10")[["down", "up"]].to_numpy().tolist() == [[0.0, 0.0]]


def test_skipped_passes_are_those_of_what_could_be_learned() -> None:
    """A sample with nothing to learn asks for no pass; where all are such samples, every pass is skipped."""
    frame = pd.DataFrame({"valid_filter_rate": [0.6, 1.0, None], "valid_filtered_by_seen": [0.2, 1.0, None]})
    assert plots.skipped(frame, "valid_").fillna(-1).round(9).tolist() == [0.5, 1.0, -1]


def test_a_fragment_leaves_the_script_to_its_page() -> None:
    html = plots.fragment(go.Figure(layout=plots.layout(height=300)), "some-plot", plots.MODE_BAR)
    assert 'id="some-plot"' in html and len(html) < 20_000 < len(plots.plotly_script())
