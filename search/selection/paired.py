"""The outcome of each sample of the validation stream under each configuration, and how clearly two of them differ.

All configurations serve the same samples in the same order, so every comparison is paired. S samples.
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from etarec.metrics import QualityMetric, per_sample

LAST_RANK = 50  # no metric looks further
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """One configuration's ranks and decisions, in stream order.

    ranks: uint8 [S], cut off at LAST_RANK. admitted: bool [S], whether the backward pass was computed.
    """

    ranks: NDArray[np.uint8]
    admitted: NDArray[np.bool_]

    @classmethod
    def of(cls, ranks: NDArray[np.integer], admitted: NDArray[np.bool_]) -> "Outcomes":
        return cls(np.minimum(ranks, LAST_RANK).astype(np.uint8), admitted)

    @classmethod
    def read(cls, text: str) -> "Outcomes":
        """The outcomes that `text` gave. Raises ValueError for another text."""
        packed = np.frombuffer(_unpacked(text), dtype=np.uint8)
        samples = len(packed) * 8 // 9
        return cls(packed[:samples], np.unpackbits(packed[samples:], count=samples).astype(np.bool_))

    def text(self) -> str:
        """Compressed, in base64: a line of the journal."""
        return _packed(self.ranks.tobytes() + np.packbits(self.admitted).tobytes())

    def first(self, samples: int) -> "Outcomes":
        """The outcomes of the stream's first samples."""
        return Outcomes(self.ranks[:samples], self.admitted[:samples])


def users_text(users: NDArray[np.integer]) -> str:
    """The users of a stream, int [S], as a line of the journal."""
    return _packed(np.diff(users, prepend=0).astype("<i4").tobytes())


def users_of(text: str) -> NDArray[np.int32]:
    """The users that `users_text` was given. Raises ValueError for another text."""
    return np.cumsum(np.frombuffer(_unpacked(text), dtype="<i4"), dtype=np.int32)


def z_scores(
    a: Outcomes, b: Outcomes, users: NDArray[np.integer], qualities: Sequence[QualityMetric]
) -> tuple[float, ...]:
    """The lead of `a` over `b` in paired standard errors: in each quality, and in the share of skipped passes."""
    better = [per_sample(a.ranks, quality) - per_sample(b.ranks, quality) for quality in qualities]
    skips_more = b.admitted.astype(np.float64) - a.admitted
    return tuple(_z(differences, users) for differences in (*better, skips_more))


def _z(differences: Floats, users: NDArray[np.integer]) -> float:
    """The mean difference in standard errors of a ratio over users, whose samples depend on each other.

    It is infinite, or 0 for a mean of 0, where all users differ alike.
    """
    mean = float(differences.mean())
    _, user = np.unique(users, return_inverse=True)
    off = np.bincount(user, weights=differences - mean)
    error = float(np.sqrt((off**2).sum() * len(off) / max(len(off) - 1, 1))) / len(differences)
    if error > 0:
        return mean / error
    return 0.0 if mean == 0 else float(np.copysign(np.inf, mean))


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def _unpacked(text: str) -> bytes:
    try:
        return zlib.decompress(base64.b64decode(text, validate=True))
    except zlib.error as error:
        raise ValueError(str(error)) from None
