"""The expected gain in area against sampling, a numerical integral and cases worked out by hand."""

import numpy as np
import pytest
from scipy.stats import norm

from search.sampler.improvement import expected_improvement
from search.selection.pareto import hypervolume

FRONT = np.array([[0.2, 0.9], [0.5, 0.6], [0.45, 0.3], [0.8, 0.1], [0.05, 0.95]])  # the third is dominated
REFERENCE = np.array([0.1, 0.0])  # the last lies outside


def gain(point: np.ndarray) -> float:
    corner = (float(REFERENCE[0]), float(REFERENCE[1]))
    return hypervolume([*FRONT, point], corner) - hypervolume(FRONT, corner)


def test_it_equals_the_mean_gain_of_samples() -> None:
    drawn = np.random.default_rng(0)
    for _ in range(4):
        mean, deviation = drawn.uniform(0, 1, 2), drawn.uniform(0.02, 0.4, 2)
        gains = [gain(sample) for sample in drawn.normal(mean, deviation, (4000, 2))]
        expected = expected_improvement(mean[None], deviation[None], FRONT, REFERENCE)[0]
        assert expected == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))


def test_it_equals_an_integral_on_a_grid() -> None:
    mean, deviation = np.array([0.55, 0.5]), np.array([0.1, 0.2])
    steps = (np.arange(200) + 0.5) / 200
    axes = [norm.ppf(steps, m, s) for m, s in zip(mean, deviation, strict=True)]  # equally likely cells
    integral = np.mean([[gain(np.array([one, other])) for other in axes[1]] for one in axes[0]])
    expected = expected_improvement(mean[None], deviation[None], FRONT, REFERENCE)[0]
    assert expected == pytest.approx(integral, rel=5e-3)


def test_without_uncertainty_it_is_the_gain_itself() -> None:
    points = np.array([[0.9, 0.95], [0.6, 0.5], [0.3, 0.3], [0.05, 2.0], [0.4, 0.7]])
    expected = expected_improvement(points, np.full((5, 2), 1e-9), FRONT, REFERENCE)
    assert expected == pytest.approx([gain(point) for point in points], abs=1e-8)


@pytest.mark.parametrize("objectives", [2, 3])
def test_nothing_is_gained_beyond_the_largest_possible_objectives(objectives: int) -> None:
    """It is the mean gain of samples that are cut off there, also if the model believes a point beyond."""
    drawn, corner, most = np.random.default_rng(2), [0.1, 0.0, -0.2][:objectives], [np.inf, 1.0, 0.0][:objectives]
    front = np.vstack([drawn.uniform(-0.2, 0.9, (6, objectives)), [0.4, 1.1, -0.1][:objectives]])
    mean, deviation = np.array([0.7, 0.9, -0.1])[:objectives], np.array([0.2, 0.2, 0.2])[:objectives]
    reached = np.minimum(front, most)
    before = hypervolume(reached, corner)
    samples = np.minimum(drawn.normal(mean, deviation, (4000, objectives)), most)
    gains = [hypervolume(np.vstack([reached, sample]), corner) - before for sample in samples]
    found = expected_improvement(mean[None], deviation[None], front, corner, most)[0]
    assert found == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))
    assert found < 0.95 * expected_improvement(mean[None], deviation[None], front, corner)[0]


@pytest.mark.parametrize("points", [0, 1, 5, 30])
def test_of_three_objectives_it_is_the_mean_gain_in_volume(points: int) -> None:
    drawn = np.random.default_rng(points)
    front, corner = drawn.uniform(0, 1, (points, 3)), np.array([0.1, 0.0, -0.2])
    mean, deviation = drawn.uniform(0.3, 1, 3), drawn.uniform(0.02, 0.4, 3)
    before = hypervolume(front.reshape(-1, 3), corner.tolist())
    samples = drawn.normal(mean, deviation, (2000, 3))
    gains = [hypervolume(np.vstack([front, sample]), corner.tolist()) - before for sample in samples]
    expected = expected_improvement(mean[None], deviation[None], front, corner)[0]
    assert expected == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / np.sqrt(len(gains)))


def test_of_three_objectives_it_equals_botorch() -> None:
    """The values are those of BoTorch 0.18.1 with `FastNondominatedPartitioning`."""
    front = [[0.41, 0.9, -0.3], [0.43, 0.7, -0.5], [0.45, 0.35, -0.8], [0.46, 0.1, -0.95], [0.42, 0.5, -0.2]]
    front += [[0.44, 0.6, -0.9]]  # the second and the last but one stay on the front by the third objective
    means = [[0.44, 0.6, -0.4], [0.40, 0.95, -0.2], [0.47, 0.2, -0.9], [0.39, 0.3, -0.5], [0.455, 0.4, -0.7]]
    deviations = [[0.01, 0.05, 0.05], [0.008, 0.02, 0.1], [0.02, 0.1, 0.02], [0.005, 0.3, 0.2], [0.003, 0.01, 0.01]]
    of_botorch = [0.00370074289, 0.000403326335, 0.000402366011, 1.54219695e-07, 0.00152916358]
    expected = expected_improvement(means, deviations, front, [0.40, 0.0, -1.0])
    assert expected == pytest.approx(of_botorch, rel=1e-6)


def test_without_a_front_it_is_the_product_of_both_expectations() -> None:
    none = np.empty((0, 2))
    expected = expected_improvement([[0.0, 0.0]], [[1.0, 1.0]], none, [0.0, 0.0])
    assert expected[0] == pytest.approx(1 / (2 * np.pi))  # E[y+] of a standard normal is 1 / sqrt(2 pi)


def test_it_equals_botorch() -> None:
    """The values are those of BoTorch 0.18.1: `ExpectedHypervolumeImprovement` with `NondominatedPartitioning`."""
    front = [[0.41, 0.9], [0.43, 0.7], [0.45, 0.35], [0.46, 0.1], [0.42, 0.5]]
    means = [[0.44, 0.6], [0.40, 0.95], [0.47, 0.2], [0.39, 0.3], [0.455, 0.4]]
    deviations = [[0.01, 0.05], [0.008, 0.02], [0.02, 0.1], [0.005, 0.3], [0.003, 0.01]]
    of_botorch = [0.0029332067, 0.000240686492, 0.00369254095, 1.0850143e-07, 0.00252081789]
    expected = expected_improvement(means, deviations, front, [0.40, 0.0])
    assert expected == pytest.approx(of_botorch, rel=1e-6)
