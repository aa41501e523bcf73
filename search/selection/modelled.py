"""The quality of trials without the luck of single measurements.

Among many similar configurations, the best measured one was also lucky, so its quality falls when it is measured again.
A Gaussian process over all finished trials predicts each configuration's quality, from the measurements of its
neighbours too.
"""

from collections.abc import Sequence

import numpy as np

from etarec.metrics import QUALITY_METRICS
from search.records.trial import Trial
from search.spec import Spec
from search.surrogate.cube import Cube
from search.surrogate.gaussian_process import GaussianProcess

FEWEST_TRIALS = 10  # with fewer, the model knows no more than the measurements


def modelled(spec: Spec, finished: Sequence[Trial]) -> list[dict[str, float]]:
    """The modelled quality of each finished trial, by those quality metrics that objectives and constraints name.

    Empty dictionaries unless the spec asks for it (`search.front: modelled`) and there are FEWEST_TRIALS.
    """
    if spec.search.front == "measured" or len(finished) < FEWEST_TRIALS:
        return [{} for _ in finished]
    cube = Cube(spec.space, spec.adapt)
    features = cube.features(cube.points([trial.parameters for trial in finished]))
    names = [name for name in QUALITY_METRICS if name in (*spec.search.objectives, *spec.search.constraints)]
    values = [np.array([trial.metrics[name] for trial in finished]) for name in names]
    believed = [GaussianProcess.fit(features, value).predict(features)[0].tolist() for value in values]
    return [dict(zip(names, each, strict=True)) for each in zip(*believed, strict=True)]
