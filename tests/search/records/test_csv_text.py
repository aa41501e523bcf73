"""No text of a CSV file acts as a formula."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from search.records import csv_text


@pytest.mark.parametrize(
    "text", ["=cmd()", "+1+cmd()", "-2+3", "@SUM(1)", "\t=1", "=", "-", "\n=1", "\uff1d1", "\uff20x"]
)
def test_a_formula_becomes_text(text: str) -> None:
    frame = pd.DataFrame({"name": [text], "rate": [-0.5]})
    assert pd.read_csv(io.StringIO(csv_text.of_frame(frame)))["rate"].tolist() == [-0.5]
    for written in (csv_text.of_frame(frame), csv_text.of_rows([["name", "rate"], [text, -0.5]])):
        assert [*csv.reader(io.StringIO(written, newline=""))][1] == [f"'{text}", "-0.5"]


def test_a_carriage_return_ends_no_row() -> None:
    frame = pd.DataFrame({"error": ["50%\r100%\r=cmd()", "\r=cmd()"], "top_k": pd.Series([50, None], dtype=object)})
    read = pd.read_csv(io.StringIO(csv_text.of_frame(frame)), dtype=str, keep_default_na=False)
    assert read["error"].tolist() == ["50%\\r100%\\r=cmd()", "\\r=cmd()"] and read["top_k"].tolist() == ["50", ""]


@pytest.mark.parametrize("value", ["a=b", "-0.5", "+1e-3", "-inf", "", "<b>", -3, None, np.nan, True])
def test_other_values_stay_as_they_are(value: object) -> None:
    assert csv_text.inert(value) is value
