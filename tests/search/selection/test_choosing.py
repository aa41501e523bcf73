"""Rules of the choice, by hand."""

from search.selection.choosing import knee, most_saving, weighted
from search.selection.pareto import CHEAPER

FRONT = [(0.50, 0.10), (0.49, 0.60), (0.30, 0.70), (0.20, 0.90)]


def test_the_most_saving_point_is_chosen_among_those_that_meet_the_constraints() -> None:
    choice = most_saving(FRONT[:2], "HR@10", "HR@10 at least 0.4")
    assert choice.index == 1
    assert choice.reason == (
        "It skips 60.0% of the passes, the most of the 2 points with HR@10 at least 0.4. "
        "Its own HR@10 on validation is 0.4900."
    )
    assert "and is the only point" in most_saving(FRONT[:1], "HR@10", "HR@10 at least 0.4").reason


def test_the_knee_is_furthest_above_the_line_between_the_ends() -> None:
    assert knee(FRONT, FRONT, "HR@10").index == 1  # scaled: (1, 0), (.967, .625), (.333, .75), (0, 1)
    assert knee(FRONT[:1], FRONT[:1], "HR@10").index == 0
    assert knee(FRONT[:2], FRONT[:2], "HR@10").index == 0  # two ends: the better quality
    straight = [(0.5, 0.0), (0.4, 0.5), (0.3, 1.0)]
    assert knee(straight, straight, "HR@10").index == 0


def test_the_knee_of_three_objectives_is_furthest_above_a_plane() -> None:
    objectives = [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.5, 0.4, 0.3)]
    points = [(one[0], one[2]) for one in objectives]
    choice = knee(points, objectives, "HR@10", CHEAPER)
    assert choice.index == 3
    assert choice.reason == (
        "It saves 30.0% of the cost of adapting on everything and is the knee of the front: furthest above the plane "
        "through its three ends. Its own HR@10 on validation is 0.5000."
    )


def test_weights_are_of_the_terms() -> None:
    terms, names = [(quality / 0.5, rate) for quality, rate in FRONT], ["HR@10 / 0.5000", "filter rate"]
    assert weighted(FRONT, terms, (1.0, 0.0), names, "HR@10").index == 0
    assert weighted(FRONT, terms, (0.0, 1.0), names, "HR@10").index == 3
    chosen = weighted(FRONT, terms, (1.0, 0.1), names, "HR@10")  # 1.01, 1.04, .67, .49
    assert chosen.index == 1 and "1 x HR@10 / 0.5000 + 0.1 x filter rate" in chosen.reason
