"""The folder of a finished search, as far as serving needs it: chosen.yaml, spec.yaml and the checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from etarec import checkpoint as checkpoints
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, DataConfig, UserError
from etarec.data import Interactions, load_with_users
from etarec.document import read_yaml
from etarec.serving.guard import Guard, GuardConfig
from etarec.serving.recommender import MAX_USERS, Recommender

CHECKPOINT = "checkpoint.safetensors"


@dataclass(frozen=True, eq=False)
class Run:
    """The result of a search.

    verdict, advice: as chosen.yaml begins; config: of the chosen trial; seed: of the search.
    """

    directory: Path
    verdict: str
    advice: str
    config: AdaptConfig
    data: DataConfig
    seed: int
    checkpoint: Checkpoint
    checkpoint_file: Path


def read(directory: Path, checkpoint: Path | None = None) -> Run:
    """The run in a folder.

    checkpoint: the file, if it is neither `checkpoint.safetensors` in the folder nor where provenance.json says.

    Raises UserError if a file is missing or damaged, the search chose nothing, or the checkpoint is another one.
    """
    chosen, spec = read_yaml(directory / "chosen.yaml"), read_yaml(directory / "spec.yaml")
    if not isinstance(chosen.get("adapt"), dict):
        raise UserError(f"{directory}: the search chose no configuration ({chosen.get('why', 'no reason given')})")
    path = _checkpoint_file(directory, checkpoint)
    return Run(
        directory,
        str(chosen.get("verdict", "")),
        str(chosen.get("advice", "")),
        _valid(AdaptConfig, chosen["adapt"], directory / "chosen.yaml", "adapt"),
        _valid(DataConfig, spec.get("data"), directory / "spec.yaml", "data"),
        int((spec.get("search") or {}).get("seed", 0)),
        _checkpoint(path, _provenance(directory)),
        path,
    )


def load(
    directory: Path,
    *,
    checkpoint: Path | None = None,
    adapt: AdaptConfig | None = None,
    log: bool = True,
    guard: GuardConfig | None = GuardConfig(),  # noqa: B008  # frozen
    max_users: int = MAX_USERS,
) -> Recommender:
    """A recommender of the chosen configuration, which begins at the checkpoint.

    Args:
        directory: of a finished search, such as runs/demo.
        checkpoint: as for `read`.
        adapt: another configuration than the chosen one.
        log: begin with the histories of the search's log; otherwise without users and popularity.
        guard: None for a model that never goes back to its checkpoint.
        max_users: histories to keep.

    Raises UserError as `read` does, or if the log has changed.
    """
    run = read(directory, checkpoint)
    config = adapt or run.config
    needed = log or config.fisher_alpha > 0  # whose importance of weights is computed from the log
    data, users = _log(run) if needed else (without_users(run), [])
    watch = Guard(guard) if guard else None
    return Recommender(run.checkpoint, config, data, users if log else [], run.seed, watch, max_users)


def _log(run: Run) -> tuple[Interactions, list[str]]:
    data, users = load_with_users(run.data)
    run.checkpoint.check_against(data.vocabulary, data.sha256, str(run.directory))
    return data, users.to_pylist()


def without_users(run: Run) -> Interactions:
    """Data with the checkpoint's items and nobody who took them."""
    return Interactions(
        offsets=np.zeros(1, np.int64),
        items=np.empty(0, np.int32),
        train_end=np.empty(0, np.int32),
        valid_end=np.empty(0, np.int32),
        timestamps=None,
        max_length=run.data.max_length,
        vocabulary=run.checkpoint.vocabulary,
        sha256="",
    )


def _checkpoint_file(directory: Path, given: Path | None) -> Path:
    inside = directory / CHECKPOINT
    return given or (inside if inside.exists() else Path(str(_provenance(directory).get("path", inside))))


def _checkpoint(path: Path, about: dict[str, Any]) -> Checkpoint:
    found = checkpoints.read(path)
    if found.sha256 != about.get("sha256", found.sha256):
        raise UserError(f"{path}: is another checkpoint than the search's (sha256 {str(about['sha256'])[:12]})")
    return found


def _provenance(directory: Path) -> dict[str, Any]:
    file = directory / "provenance.json"
    try:
        about = json.loads(file.read_text(encoding="utf-8")).get("checkpoint") or {}
        return dict(about)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: cannot be read ({error}), expected the file that a search writes") from error


def _valid(kind: type[Any], document: Any, file: Path, section: str) -> Any:
    try:
        return TypeAdapter(kind).validate_json(json.dumps(document))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, (section, *problem["loc"])))
        raise UserError(f"{file}: {place}: {problem['msg']}; expected what a search of this version writes") from error
