"""The search harness around `etarec`.

The modules beside the packages are

- the steps of a search, in their order: `tune` or `api`, `warm_start`, `prepare` with `preflight` and `rehearsal`, or
  `dry_run` in its place, `experiment`, `subject`, `retest`;
- its texts: `console` with `lines`, and `numbers`, `markdown` and `redact`, which reports and MLflow use, too;
- its vocabulary: `baselines` and `fields`.

`load`, `run` and `Result` are its Python interface, see search/api.py. They are imported when they are first used, so
that a command's `--help` does not wait for pandas.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.api import Result, load, run

__all__ = ["Result", "load", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from search import api

    return getattr(api, name)
