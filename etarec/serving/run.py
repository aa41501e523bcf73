"""The folder of a finished search, as far as serving needs it: chosen.yaml, spec.yaml and the checkpoint."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

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
Baseline = Literal["none", "all", "random"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
ADVISED: dict[str, Baseline] = {"do_not_adapt": "none", "adapt_on_all": "all", "skip_at_random": "random"}  # by verdict


@dataclass(frozen=True, eq=False)
class Run:
    """The result of a search.

    verdict, advice: as chosen.yaml begins; name, config: of the chosen trial or of a baseline; seed: of the search.
    """

    directory: Path
    verdict: str
    advice: str
    name: str
    config: AdaptConfig
    data: DataConfig
    seed: int
    checkpoint: Checkpoint
    checkpoint_file: Path


def read(directory: Path, checkpoint: Path | None = None, baseline: Baseline | None = None) -> Run:
    """The run in a folder.

    checkpoint: the file, if it is neither `checkpoint.safetensors` in the folder nor where provenance.json says.
    baseline: of the search, in place of the chosen trial: `none` is the checkpoint without adaptation, `all` learns
        from every observation, `random` skips as many as the chosen trial.

    Raises UserError if a file is missing or damaged, the search chose nothing, or the checkpoint is another one.
    """
    chosen, spec = read_yaml(directory / "chosen.yaml"), read_yaml(directory / "spec.yaml")
    name, adapt = _configuration(directory, chosen, spec, baseline)
    path = _checkpoint_file(directory, checkpoint)
    return Run(
        directory,
        str(chosen.get("verdict", "")),
        str(chosen.get("advice", "")),
        name,
        _valid(AdaptConfig, adapt, directory / "chosen.yaml", "adapt"),
        _valid(DataConfig, spec.get("data"), directory / "spec.yaml", "data"),
        int((spec.get("search") or {}).get("seed", 0)),
        _checkpoint(path, _provenance(directory)),
        path,
    )


def load(
    directory: Path,
    *,
    checkpoint: Path | None = None,
    baseline: Baseline | None = None,
    adapt: AdaptConfig | None = None,
    log: bool = True,
    guard: GuardConfig | None = GuardConfig(),  # noqa: B008  # frozen
    max_users: int = MAX_USERS,
) -> Recommender:
    """A recommender of the chosen configuration, which begins at the checkpoint.

    Args:
        directory: of a finished search, such as runs/demo.
        checkpoint, baseline: as for `read`.
        adapt: a configuration of your own.
        log: begin with the histories of the search's log; otherwise without users and popularity.
        guard: None for a model that never goes back to its checkpoint.
        max_users: histories to keep.

    Raises UserError as `read` does, or if the log has changed.
    """
    run = read(directory, checkpoint, "none" if adapt else baseline)
    config = adapt or run.config
    needed = log or config.fisher_alpha > 0  # whose importance of weights is computed from the log
    data, users = _log(run) if needed else (without_users(run), [])
    watch = Guard(guard) if guard else None
    return Recommender(run.checkpoint, config, data, users if log else [], run.seed, watch, max_users)


def _configuration(
    directory: Path, chosen: dict[str, Any], spec: dict[str, Any], baseline: Baseline | None
) -> tuple[str, Any]:
    """Name and fields of what is served. chosen.yaml has a baseline's fields as far as they differ from the trial's."""
    trial, known = chosen.get("adapt"), {"none": {"target": "none"}, **(chosen.get("baselines") or {})}
    if baseline is None and not isinstance(trial, dict):
        advised = ADVISED.get(str(chosen.get("verdict")))
        wanted = f"--baseline {advised}, as its verdict advises" if advised else f"--baseline {' or '.join(known)}"
        why = chosen.get("why", "no reason given")
        raise UserError(f"{directory}: no trial to serve ({why}); expected {wanted}")
    if baseline is None:
        return str(chosen.get("trial_id")), trial
    if baseline not in known:
        raise UserError(f"{directory / 'chosen.yaml'}: has no baseline {baseline}, expected {' or '.join(known)}")
    return f"baseline {baseline}", {**(trial or spec.get("adapt") or {}), **known[baseline]}


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
