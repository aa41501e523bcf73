"""A search of the formula as a program, so that tests can kill it.

formula_search.py DIR TRIALS SLEEP [resume] [warm=DIR] [first=DIR] [search={KEY: VALUE}]
"""

import sys
from pathlib import Path
from typing import Any

import yaml
from formula import Formula

from search import experiment
from search.experiment import Experiment
from search.records.states import Ending
from search.spec import load
from search.warm_start import Folders


def document(trials: int, **settings: Any) -> dict[str, Any]:
    """The experiment file; settings: further ones of its section `search`."""
    space = {
        "top_k": {"low": 2, "high": 500, "log": True},
        "entropy_quantile": {"low": 0.05, "high": 1.0},
        "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
    }
    search = {"trials": trials, "concurrency": 2, "bootstrap_replicates": 50, **settings}
    return {"name": "formula", "space": space, "search": search}


def main() -> int:
    folder, trials, sleep, resume = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), "resume" in sys.argv
    folder.mkdir(exist_ok=True)
    file = folder / "space.yaml"
    settings = yaml.safe_load("".join(_given("search")) or "{}")
    file.write_text(yaml.safe_dump(document(trials, **settings)))
    warm, first = (tuple(map(Path, _given(key))) for key in ("warm", "first"))
    ran = Experiment(load(file), folder / "out", resume=resume, earlier=Folders(warm, first))
    ending = experiment.run(ran, Formula(sleep=sleep, log=folder / "measured"), n_items=1000)
    return 0 if ending is Ending.COMPLETE else 130


def _given(key: str) -> list[str]:
    return [text.removeprefix(f"{key}=") for text in sys.argv if text.startswith(f"{key}=")]


if __name__ == "__main__":
    sys.exit(main())
