"""Target `none` is the model as it was trained, one literal pass per sample."""

import numpy as np
import torch
from literal_adapt import World, rank_of, scores_of

from etarec.adapt.none import places
from etarec.config import AdaptConfig, Reason


@torch.no_grad()
def test_every_sample_is_served_by_a_full_pass_and_nothing_is_asked(world: World) -> None:
    model, samples = world.model(), world.samples()
    pairs = list(zip(samples.users, samples.positions, strict=True))
    full = [rank_of(scores_of(model, world.inputs(*pair)), world.target(*pair)) for pair in pairs]
    served = world.measure(AdaptConfig(target="none"), model)
    assert served.ranks.tolist() == full and (served.reasons == Reason.NOT_ASKED).all()
    assert served.metrics()["filter_rate"] == 1 and served.metrics()["adapt_seconds"] == 0
    for name, weight in world.model().state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


def test_places_in_the_stream_are_those_in_the_batch_behind_its_start() -> None:
    np.testing.assert_array_equal(places(slice(10, 20), torch.tensor([0, 3, 9])), [10, 13, 19])
