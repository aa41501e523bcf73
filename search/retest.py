"""The only reader of the test split: the front's points and the baselines, each once, after the selection."""

import torch

from etarec.config import AdaptConfig
from etarec.evaluate import Measurement
from search.subject import Subject, finite


def measure_on_test(subject: Subject, config: AdaptConfig, seed: int, threads: int) -> Measurement:
    """Serves the test stream from the frozen checkpoint; it calibrates its own E0 on its own first batch.

    Raises NotFiniteError as a trial does.
    """
    torch.set_num_threads(threads)
    return finite(subject.measure(config, "test", seed))
