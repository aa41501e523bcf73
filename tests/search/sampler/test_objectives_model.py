"""The model of several objectives, with what is known of adapting on everything."""

import numpy as np
import pytest

from search.sampler.objectives_model import ObjectivesModel, Origin
from search.surrogate.gaussian_process import GaussianProcess

DRAWN = np.random.default_rng(0)
POINTS, OTHERS = DRAWN.random((24, 3)), DRAWN.random((300, 3))
ORIGIN = Origin(np.array([0.5, 0.1, -1.0]), rate=1)


def measured(points: np.ndarray) -> np.ndarray:
    """Quality, filter rate and cost: the gate matters the more, the more is skipped. Everything skips a tenth."""
    rate = 0.1 + 0.9 * points[:, 0]
    gate = np.sin(5 * points[:, 1]) + points[:, 2]
    return np.column_stack([0.5 - 0.2 * (rate - 0.1) * gate, rate, 0.9 * (rate - 0.1) - 1])


def model(origin: Origin | None) -> ObjectivesModel:
    return ObjectivesModel.fit(POINTS, measured(POINTS), origin)


def test_what_is_known_of_adapting_on_everything_makes_predictions_better() -> None:
    without, known = (np.abs(model(origin).predict(OTHERS)[0] - measured(OTHERS))[:, 0] for origin in (None, ORIGIN))
    assert known.mean() < 0.85 * without.mean()


def test_qualities_spread_with_the_filter_rate() -> None:
    """Without it the model is as unsure where nearly nothing is skipped as where everything is."""
    low, high = np.full((1, 3), 0.0), np.array([[1.0, 0.0, 0.0]])
    ratio = {}
    for known, origin in ((False, None), (True, ORIGIN)):
        nothing, everything = (model(origin).predict(point)[1][0, 0] for point in (low, high))
        ratio[known] = nothing / everything
    assert ratio[True] < 0.5 * ratio[False]


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_the_filter_rate_is_modelled_as_it_is_and_without_an_origin_all_are(origin: Origin | None) -> None:
    means, deviations = model(origin).predict(OTHERS)
    for place in (1,) if origin else range(3):
        alone = GaussianProcess.fit(POINTS, measured(POINTS)[:, place]).predict(OTHERS)
        assert means[:, place] == pytest.approx(alone[0]) and deviations[:, place] == pytest.approx(alone[1])


@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_what_is_believed_is_as_predicted_and_more_certain(origin: Origin | None) -> None:
    believing = model(origin).believing(OTHERS[:5])
    (before, unsure), (after, sure) = model(origin).predict(OTHERS[:5]), believing.predict(OTHERS[:5])
    assert after == pytest.approx(before, abs=1e-6) and (sure < unsure).all()
    (means, _), (expected, _) = model(origin).believing(np.empty((0, 3))).predict(OTHERS), model(origin).predict(OTHERS)
    assert means == pytest.approx(expected)
