"""A process that observes one thing after another, to be killed: python -m tests.etarec.serving.observing RUN STATE N.

It continues where its predecessor was, prints the number of observations after each, and at the Nth its digest.
"""

import hashlib
import sys
from pathlib import Path

import torch

from etarec.serving import Durable, Recommender, load


def observation(recommender: Recommender, number: int) -> tuple[str, str]:
    """The user and the item of an observation; always the same."""
    users, items = [f"user {n}" for n in range(25)], recommender.catalogue.tokens
    return users[number * 7 % 23], items[(number * number + number // 5) % len(items)]


def digest(recommender: Recommender) -> str:
    """Everything that observing changed, as one text."""
    weights = hashlib.sha256()
    for tensor in recommender.model.state_dict().values():
        weights.update(tensor.numpy().tobytes())
    counts = sorted((name, count) for name, count in recommender.counts.items())
    return f"{weights.hexdigest()} {counts} {recommender.costs()} {recommender.recommend(['user 3'], k=3)}"


def main() -> None:
    run, state, last = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    served = Durable(load(run), state, every=50)
    for number in range(served.recommender.counts["observations"], last):
        user, item = observation(served.recommender, number)
        served.observe([user], [item])
        print(number + 1, flush=True)
    print(digest(served.recommender), flush=True)


if __name__ == "__main__":
    main()
