"""The only reader of the test split: it measures each front point and baseline once, after the selection."""

import torch

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search.subject import Subject, finite


def measure_on_test(subject: Subject, config: AdaptConfig, seed: int, threads: int) -> Measurement:
    """The measurement on the test stream, which starts from the checkpoint and calibrates E0 on its own first batch.

    Raises NotFiniteError if a metric is NaN or infinite.
    """
    torch.set_num_threads(threads)
    return finite(subject.measure(config, "test", seed))
