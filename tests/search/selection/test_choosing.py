"""Rules of the choice, by hand."""

from search.selection.choosing import knee, most_skipping, weighted

FRONT = [(0.50, 0.10), (0.49, 0.60), (0.30, 0.70), (0.20, 0.90)]


def test_the_most_skipping_point_is_chosen_among_those_that_meet_the_constraints() -> None:
    choice = most_skipping(FRONT[:2], "HR@10", "HR@10 at least 0.4")
    assert choice.index == 1
    assert choice.reason == (
        "It skips 60.0% of the passes, the most of the 2 points with HR@10 at least 0.4; its own HR@10 is 0.4900."
    )
    assert "and is the only point" in most_skipping(FRONT[:1], "HR@10", "HR@10 at least 0.4").reason


def test_the_knee_is_furthest_above_the_line_between_the_ends() -> None:
    assert knee(FRONT, "HR@10").index == 1  # scaled: (1, 0), (.967, .625), (.333, .75), (0, 1)
    assert knee(FRONT[:1], "HR@10").index == 0
    assert knee(FRONT[:2], "HR@10").index == 0  # two ends: the better quality
    assert knee([(0.5, 0.0), (0.4, 0.5), (0.3, 1.0)], "HR@10").index == 0  # a straight front


def test_weights_are_of_the_relative_quality_and_the_filter_rate() -> None:
    assert weighted(FRONT, (1.0, 0.0), 0.5, "HR@10").index == 0
    assert weighted(FRONT, (0.0, 1.0), 0.5, "HR@10").index == 3
    chosen = weighted(FRONT, (1.0, 0.1), 0.5, "HR@10")  # 1.01, 1.04, .67, .49
    assert chosen.index == 1 and "1 x HR@10 / 0.5000 + 0.1 x filter rate" in chosen.reason
