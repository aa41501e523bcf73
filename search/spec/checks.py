"""Checks of a spec that need more than the file: the data, or the trials that were measured before."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etarec.config import UserError
from etarec.document import quoted
from search.spec.space import acts
from search.spec.spec import Spec

if TYPE_CHECKING:  # they import pandas and torch, which an error message can do without
    from etarec.data import Interactions
    from etarec.models import SequenceModel


def check_something_to_learn(spec: Spec, data: "Interactions") -> None:
    """Raise UserError if no validation sample can be adapted on, which would make all trials equal."""
    adapt = spec.adapt
    learns = adapt.learns_next_item and adapt.new_transitions_only and adapt.feedback == "next_request"
    searched = {"target", "objective", "new_transitions_only", "transitions", "feedback"} & spec.space.keys()
    if learns and not searched and int((data.valid_end - data.train_end).max()) <= 1:
        raise UserError(
            "adapt.new_transitions_only: given true, but every validation sample ends in a transition of the training "
            "data, since no user has two validation samples; expected false, or adapt.feedback: immediate, or "
            "data.split: ratio with a rehearsal_share"
        )


def check_shallow_steps(spec: Spec, model: "type[SequenceModel]") -> None:
    """Raise UserError, which names the key, if a trial's `filtered` can be one that the model does not offer."""
    searched = spec.space.get("filtered")
    given = (spec.adapt.filtered,) if searched is None else searched.choices or ()
    offered = ("nothing", *model.shallow_steps)
    if lacking := [str(value) for value in given if value not in offered]:
        place = "adapt.filtered" if searched is None else "space.filtered.choices"
        raise UserError(
            f"{place}: given {' and '.join(lacking)}, which {model.__name__} does not offer, as it has no residual "
            f"stream from the last item to the output; expected {' or '.join(offered)}"
        )


def check_against_data(spec: Spec, n_items: int) -> None:
    """Raise UserError, which names the key, if a trial's K can exceed the catalogue (`n_items`, without padding)."""
    searched = spec.space.get("top_k")
    values = [spec.adapt.top_k] if searched is None else [searched.high, *(searched.choices or ())]
    largest = max((value for value in values if isinstance(value, int)), default=0)
    place = "adapt.top_k" if searched is None else f"space.top_k.{'high' if searched.high else 'choices'}"
    check_top_k(place, largest, n_items)


def check_top_k(key: str, top_k: int, n_items: int) -> None:
    """Raise UserError, which names the key, if K exceeds the catalogue (`n_items`, without padding)."""
    if top_k > n_items:
        raise UserError(f"{key}: given {top_k}, expected at most {n_items}, the number of items in the catalogue")


def check_measured(spec: Spec, measured: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError, which names field and trial, if the study of a resumed search could not hold a measured trial.

    A range may have become narrower: the study accepts values outside it.

    Args:
        spec: of the resumed search.
        measured: the trials' parameters by their ids.
    """
    for trial_id, parameters in measured.items():
        for key, dimension in spec.space.items():
            value = parameters.get(key)
            if dimension.contains(value) or not acts(dimension, spec.adapt, parameters):
                continue
            if dimension.choices is not None or value is None:
                raise UserError(
                    f"space.{key}: {trial_id} was measured with {quoted(value)}, expected a space that contains it, "
                    "because the study of a resumed search holds all its trials"
                )
