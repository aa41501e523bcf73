"""The Gaussian process against its textbook formulas and on functions with known features."""

import numpy as np
import pytest
from scipy.optimize import check_grad

from search.surrogate.gaussian_process import GaussianProcess, _loss


def wave(x: np.ndarray) -> np.ndarray:
    return np.sin(6 * x[:, 0]) + 0.5 * x[:, 1]


def test_the_gradient_of_the_loss_is_right() -> None:
    drawn = np.random.default_rng(1)
    x = drawn.random((15, 3))
    squares, y = (x[:, None] - x[None]) ** 2, drawn.normal(size=15)
    for parameters in drawn.normal(-1, 0.7, (5, 4)):
        error = check_grad(lambda p: _loss(p, squares, y)[0], lambda p: _loss(p, squares, y)[1], parameters)
        assert error < 1e-3


def test_prediction_is_the_textbook_s() -> None:
    drawn = np.random.default_rng(2)
    x, new = drawn.random((12, 2)), drawn.random((5, 2))
    y = wave(x)
    model = GaussianProcess.fit(x, y)

    def covariance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        r = np.sqrt(5 * (((one[:, None] - other[None]) / model.lengths) ** 2).sum(2))
        return (1 + r + r**2 / 3) * np.exp(-r)

    inverse = np.linalg.inv(covariance(x, x) + np.diag(model.noise + 1e-8))
    across = covariance(new, x)
    mean, deviation = model.predict(new)
    assert mean == pytest.approx(y.mean() + y.std() * across @ inverse @ (y - y.mean()) / y.std())
    variance = 1 - np.einsum("ij,jk,ik->i", across, inverse, across)
    assert deviation == pytest.approx(y.std() * np.sqrt(variance), rel=1e-5)


def test_it_learns_a_smooth_function_and_which_feature_is_idle() -> None:
    drawn = np.random.default_rng(3)
    x, new = drawn.random((60, 3)), drawn.random((200, 3))
    model = GaussianProcess.fit(x, wave(x))
    mean, deviation = model.predict(new)
    assert np.sqrt(np.mean((mean - wave(new)) ** 2)) < 0.03
    assert model.lengths[2] > 3 * model.lengths[0]
    assert np.mean(np.abs(mean - wave(new)) < 3 * deviation) > 0.9


def test_noise_is_told_from_the_function() -> None:
    drawn = np.random.default_rng(4)
    x = drawn.random((150, 2))
    y = wave(x) + drawn.normal(0, 0.3, 150)
    model = GaussianProcess.fit(x, y)
    assert np.sqrt(model.noise[0]) * y.std() == pytest.approx(0.3, rel=0.25)
    new = drawn.random((200, 2))
    assert np.sqrt(np.mean((model.predict(new)[0] - wave(new)) ** 2)) < 0.15


def test_equal_targets_are_predicted_as_such() -> None:
    x = np.random.default_rng(5).random((6, 2))
    mean, deviation = GaussianProcess.fit(x, np.full(6, 0.25)).predict(x)
    assert mean == pytest.approx(0.25) and np.isfinite(deviation).all()


def test_a_believer_is_surer_of_the_same_means() -> None:
    drawn = np.random.default_rng(6)
    x, new, other = drawn.random((20, 2)), drawn.random((3, 2)), drawn.random((50, 2))
    model = GaussianProcess.fit(x, wave(x))
    believing = model.believing(new)
    assert believing.predict(other)[0] == pytest.approx(model.predict(other)[0], abs=1e-6)
    assert (believing.predict(new)[1] < 0.9 * model.predict(new)[1]).all()
    assert model.believing(np.empty((0, 2))) is model


def test_draws_pass_through_the_results_and_spread_as_predicted() -> None:
    x = np.linspace(0, 1, 8)[:, None]
    process = GaussianProcess.fit(x, np.sin(6 * x[:, 0]))
    places = np.concatenate([x, [[0.31], [3.0]]])
    drawn, (means, deviations) = process.draws(places, 4000, seed=0), process.predict(places)
    assert drawn.shape == (4000, 10)
    np.testing.assert_allclose(drawn.mean(axis=0), means, atol=4 * deviations.max() / np.sqrt(4000))
    np.testing.assert_allclose(drawn.std(axis=0), deviations, rtol=0.1, atol=2e-3)
    assert np.ptp(drawn[:, -1]) > 10 * np.ptp(drawn[:, 0])  # far from all results the process knows little
