"""A table of measurements that is continued where it stopped."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from search.spec import load, trial_config
from tests.benchmarks import measured_table
from tests.benchmarks.replay import KEPT, SPACE, read


def measured(subject: object, config: Any, seed: int, threads: int) -> Any:
    """Stands for a measurement; it depends on the configuration alone."""
    quality = config.entropy_quantile / 3
    values = dict.fromkeys(KEPT, quality) | {"filter_rate": 1 - config.entropy_quantile, "seconds": 1.0}
    return SimpleNamespace(metrics=lambda: values)


def rows(skipped: int, count: int) -> list[dict[str, Any]]:
    spec, subject = load(SPACE), SimpleNamespace()
    return list(itertools.islice(measured_table._rows(spec, subject, 1000, skipped), count))  # type: ignore[arg-type]


def test_rows_go_on_where_the_table_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_table, "measure_on_validation", measured)
    whole = rows(0, 20)
    assert [*(row for row in whole if "name" in row)] == whole[:7] and rows(7, 13) == whole[7:]
    assert rows(3, 17) == whole[3:] and rows(12, 8) == whole[12:]
    for row in whole[7:]:
        config = trial_config(load(SPACE), {key: row[key] for key in load(SPACE).space})
        assert row["filter_rate"] == pytest.approx(1 - config.entropy_quantile, abs=1e-6)


def test_a_written_table_is_read_by_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_table, "measure_on_validation", measured)
    file, spec, written = tmp_path / "tables/space.csv.gz", load(SPACE), rows(0, 15)
    columns = ["name", *spec.space, *KEPT]
    for count in (9, 15):
        measured_table._write(pd.DataFrame(written[:count], columns=columns), file)
    table, anchors = read(file)
    assert len(table) == 8 and list(anchors) == [row["name"] for row in written[:7]]
    assert table[list(spec.space)].to_dict("records") == [{key: row[key] for key in spec.space} for row in written[7:]]
