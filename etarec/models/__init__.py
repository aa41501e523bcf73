"""Sequential recommenders, one file for each value of `model.name`; base.py is their interface."""

from etarec.config import ModelConfig
from etarec.models.base import InnerLoopModel, SequenceModel
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


def build(config: ModelConfig, n_items: int, dropout: float = 0.0) -> SequenceModel:
    """A freshly initialised model over `n_items` items, padding included."""
    return ARCHITECTURES[config.name](config, n_items, dropout)


__all__ = ["BERT4Rec", "InnerLoopModel", "SequenceModel", "build"]
