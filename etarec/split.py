"""Sizes of the training, validation and test parts of a user's samples.

The ratio split reproduces the split of the ETA-Rec report.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from etarec.config import DataConfig

Int64s = npt.NDArray[np.int64]


def part_sizes(samples: Int64s, config: DataConfig) -> tuple[Int64s, Int64s]:
    """Numbers of training and validation samples, each [U], of users with `samples` [U] samples. The rest is test."""
    sizes, inverse = np.unique(samples, return_inverse=True)
    if config.split == "leave_one_out":
        parts = [leave_one_out_sizes(int(size)) for size in sizes]
    else:
        # str() gives the decimal that was written, so 0.29 means 29/100 and not the float just below it.
        valid, test = Fraction(str(config.valid_share)), Fraction(str(config.test_share))
        parts = [ratio_sizes(int(size), valid, test) for size in sizes]
    table = np.array(parts, np.int64)
    return table[inverse, 0], table[inverse, 1]


def ratio_sizes(samples: int, valid_share: Fraction, test_share: Fraction) -> tuple[int, int, int]:
    """Training, validation and test samples of one user.

    Validation and test get the floor of their share. A part whose share is a fraction of one sample takes one sample
    from training while training has more than one; test goes first.
    """
    valid, test = int(valid_share * samples), int(test_share * samples)
    train = samples - valid - test
    if train > 1 and 0 < test_share * samples < 1:
        train, test = train - 1, test + 1
    if train > 1 and 0 < valid_share * samples < 1:
        train, valid = train - 1, valid + 1
    return train, valid, test


def leave_one_out_sizes(samples: int) -> tuple[int, int, int]:
    """Training, validation and test samples of one user: the last sample is test, the one before it validation.

    A user's first sample is always for training: with two samples none is left for validation, with one none for test.
    """
    test = int(samples >= 2)
    valid = int(samples >= 3)
    return samples - valid - test, valid, test
