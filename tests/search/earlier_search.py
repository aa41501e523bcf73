"""A search in files alone, for searches that start from it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from formula import trade_off

from search.records.provenance import Provenance, settings
from search.records.records import Records
from search.records.trials_table import METRICS
from search.spec import Spec, trial_config

DIGESTS = Provenance(data={"sha256": "data"}, checkpoint={"sha256": "checkpoint"})


def written(folder: Path, spec: Spec, trials: Sequence[Mapping[str, Any]], about: Provenance = DIGESTS) -> Records:
    """The records of a search of the formula that has finished these trials."""
    folder.mkdir(parents=True)
    records = Records(folder)
    records.begin(settings(spec, about))
    for number, parameters in enumerate(trials):
        records.started(number, parameters)
        filtered, quality = trade_off(trial_config(spec, dict(parameters)))
        records.finished(number, dict.fromkeys(METRICS, 0.0) | {"hr_at_10": quality, "filter_rate": filtered}, {})
    return records
