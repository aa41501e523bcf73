"""Proposals: they fill the area from the corner of no adaptation, and depend on nothing but what they are given."""

import time
from typing import Any

import numpy as np
import pytest

from etarec.config import AdaptConfig
from search.sampler import proposal
from search.sampler.proposal import Known, propose, spread
from search.selection.pareto import hypervolume
from search.spec.dimension import Dimension
from search.surrogate.cube import Cube

SPACE = {
    "top_k": Dimension(kind="int", low=2, high=500, log=True),
    "entropy_quantile": Dimension(kind="float", low=0.05, high=1.0),
    "cosine_threshold": Dimension(kind="float", low=0.02, high=1.0, log=True),
}
CUBE = Cube(SPACE, AdaptConfig())
CORNER = np.array([0.3, 0.0])
NO_ANCHORS = np.empty((0, 2))


def measured(parameters: dict[str, Any]) -> list[float]:
    """A trade-off between quality and filter rate, best at K = 50 and with a large cosine threshold."""
    filtered = 1 - parameters["entropy_quantile"]
    away = abs(np.log(parameters["top_k"] / 50)) / 4 + 0.5 * (1 - parameters["cosine_threshold"])
    return [0.5 - 0.2 * filtered**2 - 0.2 * away, filtered]


def searched(propose_next: Any, trials: int) -> float:
    """The area that a search with eight trials at a time reaches."""
    results: list[Any] = []
    waiting: list[dict[str, Any]] = []
    while len(results) < trials:
        while len(waiting) < 8:
            waiting.append(propose_next(len(results) + len(waiting), results, waiting))
        done = waiting.pop(0)
        results.append((done, measured(done)))
    return hypervolume([values for _, values in results], (0.3, 0.0))


def by_model(number: int, results: list[Any], waiting: list[Any]) -> Any:
    if len(results) < 4:
        return spread(CUBE, number, 1)
    return propose(CUBE, Known(results, waiting, NO_ANCHORS, CORNER), number)


def test_it_finds_more_than_an_even_spread() -> None:
    grid = [{"top_k": 50, "entropy_quantile": q, "cosine_threshold": 1.0} for q in np.linspace(0.05, 1, 400)]
    truth = hypervolume([measured(point) for point in grid], (0.3, 0.0))
    blind = searched(lambda number, results, waiting: spread(CUBE, number, 1), 40)
    found = searched(by_model, 40)
    assert found > 0.93 * truth > blind


def test_the_same_knowledge_gives_the_same_proposal() -> None:
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(6))]
    known = Known(results, [spread(CUBE, 9, 0)], NO_ANCHORS, CORNER)
    assert propose(CUBE, known, 3) == propose(CUBE, known, 3) != propose(CUBE, known, 4)


def test_what_is_awaited_is_not_proposed_again_and_nothing_beside_it() -> None:
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(8))]
    first = propose(CUBE, Known(results, [], NO_ANCHORS, CORNER), 0)
    assert first is not None
    second = propose(CUBE, Known(results, [first], NO_ANCHORS, CORNER), 0)
    assert second is not None
    points = CUBE.points([first, second])
    assert np.abs(points[0] - points[1]).max() > 0.02


def test_an_anchor_leaves_only_what_lies_beyond_it() -> None:
    """A point that skips everything up to 60% at the best quality makes smaller filter rates worthless."""
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(12))]
    proposed = propose(CUBE, Known(results, [], np.array([[0.6, 0.6]]), CORNER), 0)
    assert proposed is not None and measured(proposed)[1] > 0.6


def test_where_anchors_are_out_of_reach_the_trials_own_front_counts() -> None:
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(12))]
    beyond = np.array([[1e3, 1e3]])
    assert propose(CUBE, Known(results, [], beyond, CORNER), 0) == propose(
        CUBE, Known(results, [], NO_ANCHORS, CORNER), 0
    )


@pytest.mark.parametrize("left", [1, 0])
def test_a_small_space_is_proposed_to_its_end(left: int) -> None:
    cube = Cube({"top_k": Dimension(kind="int", low=2, high=7)}, AdaptConfig())
    results = [({"top_k": k}, [0.4 + k / 100, 1 - k / 10]) for k in range(2, 8 - left)]
    proposed = propose(cube, Known(results, [], NO_ANCHORS, CORNER), 0)
    assert proposed == ({"top_k": 7} if left else None)


def test_the_spread_is_even_and_depends_on_the_seed() -> None:
    points = CUBE.points([spread(CUBE, number, 5) for number in range(16)])
    for axis in points.T:
        assert {*(axis * 4).astype(int)} == {0, 1, 2, 3}
    assert spread(CUBE, 3, 5) == spread(CUBE, 3, 5) != spread(CUBE, 3, 6)


def test_of_many_awaited_results_the_model_holds_the_most_promising() -> None:
    """The one beside the best known configuration stays; none of all is proposed again."""
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(20))]
    promising = propose(CUBE, Known(results, [], NO_ANCHORS, CORNER), 0)
    assert promising is not None
    many = [promising, *(spread(CUBE, number, 5) for number in range(1024))]
    model = proposal._Model(CUBE, Known(results, many, NO_ANCHORS, CORNER))
    assert len(model.points) == 20 + proposal.MOST_BELIEVED and len(model._objectives.processes[0].x) == len(
        model.points
    )
    assert np.abs(model.points - CUBE.points([promising])).max(axis=1).min() == 0
    proposed = propose(CUBE, Known(results, many, NO_ANCHORS, CORNER), 0)
    assert proposed is not None
    assert np.abs(CUBE.points(many) - CUBE.points([proposed])).max(axis=1).min() > 1e-9


def test_a_thousand_awaited_results_cost_little_more_than_a_hundred() -> None:
    results = [(point, measured(point)) for point in (spread(CUBE, number, 0) for number in range(60))]
    spent = {}
    for count in (proposal.MOST_BELIEVED, 1536):
        known = Known(results, [spread(CUBE, number, 5) for number in range(count)], NO_ANCHORS, CORNER)
        begin = time.process_time()
        propose(CUBE, known, 0)
        spent[count] = time.process_time() - begin
    assert spent[1536] < 3 * spent[proposal.MOST_BELIEVED]  # without the limit it is 30 times as much
