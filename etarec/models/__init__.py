"""Sequential recommenders, one file for each value of `model.name`; base.py is their interface.

own_class.py loads a model of the user's own, which `model.class` names.
"""

from etarec.config import ModelConfig
from etarec.document_schema import Location
from etarec.models import own_class
from etarec.models.base import InnerLoopModel, SequenceModel, normal_weights
from etarec.models.bert4rec import BERT4Rec
from etarec.models.gru4rec import GRU4Rec
from etarec.models.mamba4rec import Mamba4Rec
from etarec.models.sasrec import SASRec
from etarec.models.ttt4rec import TTT4Rec

ARCHITECTURES: dict[str, type[SequenceModel]] = {
    "ttt4rec": TTT4Rec,
    "gru4rec": GRU4Rec,
    "sasrec": SASRec,
    "bert4rec": BERT4Rec,
    "mamba4rec": Mamba4Rec,
}


def class_of(config: ModelConfig) -> type[SequenceModel]:
    """The class of the model. Raises UserError where `model.class` names none."""
    return (
        ARCHITECTURES[config.name]
        if config.class_path is None
        else own_class.class_of(config.class_path, own_class.SECTION)
    )


def build(config: ModelConfig, n_items: int, dropout: float = 0.0) -> SequenceModel:
    """A freshly initialised model over `n_items` items, padding included.

    Raises UserError where `model.class` names no class, or the class does not take `model.options`.
    """
    if config.class_path is None:
        return ARCHITECTURES[config.name](config, n_items, dropout)
    return own_class.build(config.class_path, config.options, n_items, dropout)


def check(config: ModelConfig, section: Location = own_class.SECTION) -> None:
    """Raise UserError, which names the key below `section`, for a model of the user's own that cannot be used."""
    if config.class_path is not None:
        own_class.check(config.class_path, config.options, section)


__all__ = ["InnerLoopModel", "SequenceModel", "build", "check", "class_of", "normal_weights"]
