"""Known items, popularity and the order of recommended items."""

import numpy as np
import pyarrow as pa

from etarec.serving.catalogue import Catalogue


def catalogue(*items: int) -> Catalogue:
    return Catalogue(pa.array(["a", "b", "c", "d"], pa.large_string()), np.array(items, np.int32))


def test_unknown_items_are_left_out():
    assert catalogue().known(["c", "x", "a", "c"]) == [3, 1, 3]
    assert len(catalogue()) == 4


def test_popularity_counts_the_log_and_what_follows():
    items = catalogue(2, 2, 3)
    assert items.popular(3).items == ("b", "c", "a") and items.popular(3).by == "popularity"
    assert np.allclose(items.popular(2).scores, [2 / 3, 1 / 3])
    items.count(4), items.count(4), items.count(4)
    assert items.popular(1) == (("d",), (0.5,), "popularity")
    items.count(1), items.count(1)
    assert items.popular(3).items == ("d", "a", "b")  # of equally popular items, those with the lower codes
    assert items.popular(9).items == ("d", "a", "b", "c")


def test_nothing_is_popular_without_interactions():
    assert catalogue().popular(3).items == ()


def test_the_best_rows_are_taken_without_those_left_out():
    assert catalogue().best([3, 0, 2], [0.9, 0.5, 0.1], 2, {1}) == (("d", "c"), (0.9, 0.1), "model")
