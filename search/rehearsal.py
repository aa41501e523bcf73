"""A rehearsal: trials run on a longer validation split, from a checkpoint that was trained without those samples.

A longer stream, on which a model ages and users come back, shows more of what adapting does on test.
"""

from dataclasses import replace
from pathlib import Path

from etarec import data
from etarec.config import UserError
from etarec.data import Interactions
from etarec.train import load_or_train, progress
from search.console import Console
from search.spec import Spec
from search.subject import Recommender


def share(spec: Spec) -> float | None:
    """The share of each user's samples, ending at test, on which trials run; None where there is no rehearsal.

    `auto` rehearses where adapting learns the next item, see docs/results.md.
    """
    wanted, adapt = spec.data, spec.adapt
    if wanted.rehearsal_share != "auto":
        return wanted.rehearsal_share
    if not adapt.learns_next_item or wanted.split != "ratio" or spec.checkpoint is not None:
        return None
    return round(wanted.valid_share + (1 - wanted.valid_share - wanted.test_share) / 2, 6)


def held_out(spec: Spec, interactions: Interactions) -> Interactions | None:
    """The split of the rehearsal; None where there is none, or where the log is too short for `auto`.

    Raises UserError where the file's share leaves no sample to train on.
    """
    given = share(spec)
    if given is None:
        return None
    split = data.rehearsal(interactions, spec.data, given)
    if split.sample_counts()["train"]:
        return split
    if spec.data.rehearsal_share == "auto":
        return None
    raise UserError(f"data.rehearsal_share: {given} leaves no train sample, expected less, or null")


def rehearsing(subject: Recommender, held_out: Interactions, console: Console) -> tuple[Recommender, Path]:
    """`subject` on the split of a rehearsal, and the file of the checkpoint trained for it with the same settings.

    Fewer samples make fewer steps an epoch. So that it is not ended on a plateau which the subject's own training left,
    it takes as many epochs at least.
    """
    own = subject.checkpoint
    with progress(own.train, console) as watch:
        trained, path = load_or_train(held_out, own.model, own.train, watch, own.epochs)
    return replace(subject, data=held_out, checkpoint=trained), path
