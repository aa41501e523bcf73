"""A Gaussian process for one objective: exact, with noise, a length scale per feature, and Matern 5/2 covariance.

Targets are scaled to mean 0 and variance 1, the process has variance 1, and the length scales and the noise are those
of highest posterior density under the priors of BoTorch (Hvarfner, Hellsten and Nardi 2024), whose length scales grow
with the square root of the number of features.

Symbols: N observations, F features, K covariance, l length scales, n noise variance.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Floats = NDArray[np.float64]

LENGTH_MEAN, LENGTH_DEVIATION = np.sqrt(2), np.sqrt(3)  # of log l, for one feature
NOISE_MEAN, NOISE_DEVIATION = -4.0, 1.0  # of log n, in units of the targets' variance
LENGTHS, NOISES = (5e-3, 1e3), (1e-6, 1.0)  # between which they are sought
JITTER = 1e-8


@dataclass(frozen=True)
class GaussianProcess:
    """A fitted process.

    x: float [N, F]. residuals: float [N], the scaled targets. noise: float [N], the variance of each.
    """

    x: Floats
    residuals: Floats
    noise: Floats
    lengths: Floats
    mean: float
    scale: float

    @classmethod
    def fit(cls, x: Floats, y: Floats) -> Self:
        """The process of highest posterior density for targets y: float [N], N > 1."""
        scale = float(y.std()) or 1.0
        residuals = (y - y.mean()) / scale
        squares = (x[:, None, :] - x[None, :, :]) ** 2
        features = x.shape[1]
        start = np.array([_mode(_length_mean(features), LENGTH_DEVIATION)] * features + [_mode(NOISE_MEAN, 1.0)])
        bounds = [tuple(np.log(LENGTHS))] * features + [tuple(np.log(NOISES))]
        start = np.clip(start, *np.transpose(bounds))
        found = minimize(_loss, start, (squares, residuals), "L-BFGS-B", jac=True, bounds=bounds)
        noise = np.full(len(y), np.exp(found.x[-1]))
        return cls(x, residuals, noise, np.exp(found.x[:-1]), float(y.mean()), scale)

    def predict(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, float [M] each, of the objective without noise at x: float [M, F]."""
        factor = cholesky(self._covariance(self.x, self.x) + np.diag(self.noise + JITTER), lower=True)
        across = self._covariance(x, self.x)
        means = across @ cho_solve((factor, True), self.residuals)
        explained = solve_triangular(factor, across.T, lower=True)
        variances = np.maximum(1 - (explained**2).sum(axis=0), 1e-12)
        return self.mean + self.scale * means, self.scale * np.sqrt(variances)

    def draws(self, x: Floats, number: int, seed: int) -> Floats:
        """Functions drawn from the posterior, at x: float [M, F] -> float [number, M]."""
        factor = cholesky(self._covariance(self.x, self.x) + np.diag(self.noise + JITTER), lower=True)
        across = solve_triangular(factor, self._covariance(self.x, x), lower=True)
        means = across.T @ solve_triangular(factor, self.residuals, lower=True)
        spread = cholesky(self._covariance(x, x) - across.T @ across + 1e-6 * np.eye(len(x)), lower=True)
        normal = np.random.default_rng(seed).standard_normal((number, len(x)))
        return np.asarray(self.mean + self.scale * (means + normal @ spread.T))

    def believing(self, x: Floats) -> Self:
        """The process once its own means at x: float [M, F] have been observed there (a kriging believer)."""
        if not len(x):
            return self
        believed = (self.predict(x)[0] - self.mean) / self.scale
        return replace(
            self,
            x=np.concatenate([self.x, x]),
            residuals=np.concatenate([self.residuals, believed]),
            noise=np.concatenate([self.noise, np.full(len(x), self.noise[0])]),
        )

    def _covariance(self, x: Floats, other: Floats) -> Floats:
        return _matern(((x[:, None, :] - other[None, :, :]) ** 2) @ self.lengths**-2)


def _matern(squares: Floats) -> Floats:
    r = np.sqrt(5 * squares)
    covariance: Floats = (1 + r + r**2 / 3) * np.exp(-r)
    return covariance


def _loss(parameters: Floats, squares: Floats, residuals: Floats) -> tuple[float, Floats]:
    """The negative log posterior density up to a constant, and its gradient, in log l and log n.

    Args:
        parameters: float [F + 1].
        squares: float [N, N, F], squared differences of the features.
        residuals: float [N].
    """
    scaled, n = squares * np.exp(-2 * parameters[:-1]), np.exp(parameters[-1])
    r = np.sqrt(5 * scaled.sum(axis=2))
    factor = cholesky((1 + r + r**2 / 3) * np.exp(-r) + (n + JITTER) * np.eye(len(r)), lower=True)
    solved = cho_solve((factor, True), residuals)
    likelihood = 0.5 * residuals @ solved + np.log(np.diag(factor)).sum()
    slope = 0.5 * (cho_solve((factor, True), np.eye(len(r))) - np.outer(solved, solved))  # of the loss by K
    by_length = np.tensordot(slope * (5 / 3) * (1 + r) * np.exp(-r), scaled, 2)
    prior, by_prior = _prior(parameters)
    return float(likelihood + prior), np.append(by_length, n * np.trace(slope)) + by_prior


def _prior(parameters: Floats) -> tuple[float, Floats]:
    """The negative log densities of l and n, which are log-normal, and their gradient in log l and log n."""
    features = len(parameters) - 1
    means = np.append(np.full(features, _length_mean(features)), NOISE_MEAN)
    deviations = np.append(np.full(features, LENGTH_DEVIATION), NOISE_DEVIATION)
    away = (parameters - means) / deviations
    return float((0.5 * away**2 + parameters).sum()), away / deviations + 1


def _length_mean(features: int) -> float:
    return float(LENGTH_MEAN + 0.5 * np.log(features))


def _mode(mean: float, deviation: float) -> float:
    """The logarithm of a log-normal variable's most likely value."""
    return float(mean - deviation**2)
