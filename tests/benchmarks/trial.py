"""(b) A trial against the literal baseline."""

import numpy as np
import torch

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from tests.benchmarks import literal, material, timing, training
from tests.benchmarks.frame import Cell, Settings, Table
from tests.benchmarks.operations import trial_operations

USERS, REPEATS = 3000, 5
TRIALS = {
    "no adaptation": AdaptConfig(target="none"),
    "weights, gated": AdaptConfig(),
    "weights, gated, feedback at the next request": AdaptConfig(feedback="next_request"),
    "weights, adapt on everything": AdaptConfig(gate="open"),
    "weights, half skipped, shallow steps": AdaptConfig(gate="random", filtered="residual", weighting="none"),
    "weights, half by loss, corrected": AdaptConfig(
        criterion="loss", calibrate="each_batch", cosine_threshold=None, correction="selection", weighting="none"
    ),
    "weights, half by loss, corrected, shallow steps over 512 items": AdaptConfig(
        criterion="loss",
        calibrate="each_batch",
        cosine_threshold=None,
        correction="selection",
        weighting="none",
        filtered="residual",
        shallow_negatives=512,
    ),
    "state, adapt on everything": AdaptConfig(target="state", gate="open", weighting="none"),
}
PRODUCT = 2048  # rows and columns of the large product
RANKS_APART = 0.02  # largest share of samples whose rank rounding may change


def trial(settings: Settings) -> Table:
    whole = material.interactions(settings)
    data = material.part_of(whole, 60 if settings.quick else USERS)
    subject = material.Subject(data, material.checkpoint(settings))
    samples, epochs = len(subject.stream), subject.checkpoint.epochs
    repeats = 1 if settings.quick else REPEATS
    rows = [_row(name, subject, repeats) for name in TRIALS]
    share = samples / whole.sample_counts()["valid"]
    return Table(
        "(b) Trial against the literal baseline",
        f"The literal code forwards every prefix padded to {data.max_length}, holds the scores of a batch over all "
        f"items, gates sample by sample and forwards admitted samples a second time with gradients. Both serve "
        f"the same {samples:,} validation samples ({share:.1%}: {data.n_users:,} users chosen at random, all "
        f"{data.n_items - 1:,} items) in batches of 256, order `position`, one checkpoint (epoch {epochs}), and "
        "agree on HR@10 and on which samples were admitted. A target is learned once its batch was ranked, unless the "
        "row says otherwise. The last column is the share of samples whose rank differs by rounding. "
        f"Gate: K = 50, quantile 0.5, epsilon 0.3. CPU seconds, {repeats} pairs. "
        "Ours serves every sample. In a search, a trial looks up the passes that no configuration changes; computing "
        "them once is not counted here. Target: 15 times. The bound is the time of the needed matrix products alone "
        "(those of the prefixes one by one), at the rate of a large product in the same round. No code on this machine "
        "can beat it; norms, activations, softmax and Top-K are not counted.",
        [
            "",
            "admitted",
            "literal s",
            "ours s",
            "literal / ours",
            "in a search s",
            "literal / that",
            "bound s",
            "literal / bound",
            "HR@10",
            "ranks apart",
        ],
        rows,
    )


def _row(name: str, subject: material.Subject, repeats: int) -> list[Cell]:
    config = TRIALS[name]
    measured: list[Measurement] = [subject.trial(config, look_up=True)]  # computes the shared passes
    outcomes: list[literal.Outcome] = []
    large = torch.randn(PRODUCT, PRODUCT)
    slow, served, found, product = timing.interleaved(
        [
            lambda: outcomes.append(plain(subject, config)),
            lambda: measured.append(subject.trial(config)),
            lambda: measured.append(subject.trial(config, look_up=True)),
            lambda: large @ large,
        ],
        repeats,
    )
    apart = max(difference(each, outcomes[-1]) for each in measured)
    admitted, quality = (measured[-1].admitted.mean(), measured[-1].metrics()["hr_at_10"])
    seconds = [timing.cpu(slow), timing.cpu(served), str(timing.ratio(slow, served))]
    looked_up = [timing.cpu(found), str(timing.ratio(slow, found))]
    products = trial_operations(subject, config, measured[-1].admitted) / (2 * PRODUCT**3)
    bound = [timing.Timed(cpu=run.cpu * products, wall=run.wall * products) for run in product]
    bounded = [timing.cpu(bound), str(timing.ratio(slow, bound))]
    return [name, float(admitted), *seconds, *looked_up, *bounded, quality, f"{apart:.3%}"]


def plain(subject: material.Subject, config: AdaptConfig) -> literal.Outcome:
    weights = training.literal_weights(subject.checkpoint.restore(material.DEVICE))
    return literal.trial(weights, subject.checkpoint.model, subject.encoder.data, subject.stream, config)


def difference(ours: Measurement, plain: literal.Outcome) -> float:
    """Share of samples whose rank differs. Raises AssertionError for differences that rounding does not explain."""
    admissions = (ours.admitted != plain.admitted).mean()
    assert admissions <= 1 / 1000, f"{admissions:.2%} of the samples were admitted by one of both only"
    apart = float((ours.ranks != plain.ranks).mean())
    assert apart <= RANKS_APART, f"{apart:.2%} of the ranks differ"
    hits = [(ranks < 10).mean() for ranks in (ours.ranks, plain.ranks)]
    assert np.isclose(*hits, atol=1e-3), f"HR@10 is {hits[0]:.5f} and {hits[1]:.5f}"
    return apart
