"""The training of the paper is the default."""

from etarec.config import TrainConfig


def test_the_defaults_are_those_of_the_paper():
    train = TrainConfig()
    assert (train.learning_rate, train.epochs, train.patience, train.dropout) == (1e-3, 300, 5, 0.2)
