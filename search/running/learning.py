"""The first trial whose suggestion rests on a result of the search.

Suggestion n rests on the results of suggestions 0..n-L alone. L is one and a half times the concurrency, since with L
equal to the concurrency one slow trial would leave the other workers idle.
"""

import math

from search.records.trial import trial_id
from search.sampler.proposal import FEWEST_RESULTS
from search.spec import SamplerName, SearchConfig

# Results without which a sampler suggests blindly. Optuna's are its own defaults, and NSGA-II's first generation.
FEWEST: dict[SamplerName, int] = {"auto": FEWEST_RESULTS, "tpe": 10, "gp": 10, "nsga2": 16}

INFORMED_PER_FIELD = 16  # trials of a search without a number of its own: docs/search.md


def lag(concurrency: int) -> int:
    """L, the lag: suggestion n rests on no result newer than that of trial n - L."""
    return concurrency + concurrency // 2


def first_informed(sampler: SamplerName, concurrency: int) -> int | None:
    """The first suggestion, counted from 0, that depends on a result if none fails; None if none ever does."""
    return FEWEST[sampler] + lag(concurrency) - 1 if sampler in FEWEST else None


def default_trials(sampler: SamplerName, fields: int, concurrency: int) -> int:
    """The trials of a search that names no number: those before the sampler learns, and a share for each field.

    They are rounded up to whole rounds of trials at the same time.
    """
    blind = first_informed(sampler, concurrency) or 0
    return concurrency * math.ceil((blind + INFORMED_PER_FIELD * fields) / concurrency)


def sentence(search: SearchConfig, concurrency: int, taken: int = 0) -> str:
    """the sampler learns from trial-0006 on

    taken: number of results of earlier searches, which have the first numbers.
    """
    first = first_informed(search.sampler, concurrency)
    if first is None:
        return f"sampler {search.sampler} does not learn from results"
    if taken >= FEWEST[search.sampler]:
        return f"the sampler knows {taken} results of earlier searches from the start"
    if first < taken + search.most_trials:
        return f"the sampler learns from {trial_id(first)} on"
    return f"too few trials for the sampler to learn: it would from {trial_id(first)} on"
