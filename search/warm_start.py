"""Earlier searches from which a new one starts.

`--warm-start` takes the finished trials of a search on the same problem: the sampler knows their results from the
start, and the front may hold them. `--first-trials` offers the front of any search, on other data too: its
configurations are measured first. Both are read from journals, which know nothing of test.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from etarec.command_line import short_path
from etarec.config import AdaptConfig, UserError
from etarec.document import quoted
from search.records.journal import JOURNAL, holds_search
from search.records.records import Records
from search.records.start import Source, Start
from search.records.states import State
from search.records.trial import Trial
from search.selection.pareto import non_dominated
from search.spec import Spec, trial_config, values_of
from search.spec.space import acts, settled

WARM, FIRST = "--warm-start", "--first-trials"
FIRST_SHARE = 4  # at most one new trial of this many is a configuration of an offered front
TRAINED = ("checkpoint sha256", "rehearsal checkpoint sha256")  # settings that are known only after training
_NO_PART_OF_THE_PROBLEM = ("search.", "space.", "adapt.", "code", "packages")  # `adapt` is compared trial by trial
_OBJECTIVES = "search.objectives"

Parameters = dict[str, Any]


@dataclass(frozen=True)
class Folders:
    """The folders that the command line names."""

    warm: tuple[Path, ...] = ()
    first: tuple[Path, ...] = ()

    def check_resumed(self, records: Records) -> None:
        """Raise UserError for a folder from which the search to resume did not start."""
        known = {source.folder for source in records.sources}
        for flag, folder in (*((WARM, one) for one in self.warm), *((FIRST, one) for one in self.first)):
            if str(folder) not in known:
                raise UserError(
                    f"{flag} {short_path(folder)}: the search in {short_path(records.directory)} began without it; "
                    "leave it out with --resume, or start a new search"
                )


def start(spec: Spec, settings: Mapping[str, Any], folders: Folders, unknown: Sequence[str] = ()) -> Start:
    """The trials and configurations from which a search starts.

    Of several trials with one configuration the first is taken.

    Args:
        spec: of the new search.
        settings: of the new search, see `provenance.settings`.
        folders: of the earlier searches.
        unknown: settings that are not compared, because they are not known yet.

    Raises:
        UserError: a folder holds no search, its problem differs, or it has no configuration of this space.
    """
    trials: list[Trial] = []
    points: list[Parameters] = []
    sources: list[Source] = []
    for folder in folders.warm:
        earlier = _records(WARM, folder)
        _check_problem(folder, earlier, settings, unknown)
        found = _distinct(_taken(folder, earlier, spec), [trial.parameters for trial in trials])
        trials += found
        sources.append(Source(str(folder), earlier.identity, trials=len(found)))
    most = max(1, spec.search.budget // FIRST_SHARE // max(1, len(folders.first)))
    for folder in folders.first:
        earlier = _records(FIRST, folder)
        found = _distinct(_front(folder, earlier, spec), [*points, *(trial.parameters for trial in trials)])
        points += [trial.parameters for trial in _spread(found, most)]
        sources.append(Source(str(folder), earlier.identity, first=min(most, len(found))))
    return Start([replace(trial, number=number) for number, trial in enumerate(trials)], points, sources)


def _records(flag: str, folder: Path) -> Records:
    if not holds_search(folder):
        raise UserError(f"{flag} {short_path(folder)}: holds no search; expected a folder with a {JOURNAL}")
    return Records(folder)


def _check_problem(folder: Path, earlier: Records, settings: Mapping[str, Any], unknown: Sequence[str]) -> None:
    """Raise UserError that names each setting in which the problem of an earlier search differs from the new one's."""
    before = earlier.settings
    both = {name for name in before.keys() & settings.keys() if not name.startswith(_NO_PART_OF_THE_PROBLEM)}
    compared = (both | {name for name in (*TRAINED, _OBJECTIVES) if name in before or name in settings}) - set(unknown)
    differing = [
        f"{name}: there {quoted(before.get(name))}, here {quoted(settings.get(name))}"
        for name in sorted(compared)
        if before.get(name) != settings.get(name)
    ]
    if differing:
        raise _refused(folder, f"its problem is another one; {'; '.join(differing)}")
    if earlier.mixed:
        raise _refused(folder, f"its settings changed while it ran ({', '.join(sorted(earlier.mixed))})")


def _refused(folder: Path, reason: str) -> UserError:
    return UserError(
        f"{WARM} {short_path(folder)}: {reason}; expected a search on the same problem "
        f"({FIRST} offers the front of another one)"
    )


def _taken(folder: Path, earlier: Records, spec: Spec) -> list[Trial]:
    """The finished trials whose configurations this space holds, with their parameters in it."""
    finished = earlier.in_state(State.FINISHED)
    configs = [_config(earlier, trial) for trial in finished]
    fitting = [
        replace(trial, parameters=parameters, source=trial.source or f"{folder}/{trial.trial_id}", mlflow_run_id="")
        for trial, config in zip(finished, configs, strict=True)
        if (parameters := _within(spec, config)) is not None and _alike(spec, config, parameters)
    ]
    if not fitting:
        raise _refused(folder, _misfit(spec, configs))
    return fitting


def _misfit(spec: Spec, configs: Sequence[Mapping[str, Any]]) -> str:
    """The reason why none of the configurations belongs to the space."""
    if not configs:
        return "no trial of it has finished"
    fixed = {key: value for key, value in asdict(spec.adapt).items() if key not in spec.space}
    names = [key for key, value in fixed.items() if all(config[key] != value for config in configs)]
    texts = [f"adapt.{key}: there {quoted(configs[0][key])}, here {quoted(fixed[key])}" for key in names]
    return "; ".join(texts) or "none of its configurations lies in this space"


def _config(earlier: Records, trial: Trial) -> Parameters:
    """The whole configuration of a trial; a field that the journal does not know has its default."""
    prefix = "adapt."
    fixed = {key.removeprefix(prefix): value for key, value in earlier.settings.items() if key.startswith(prefix)}
    return {**asdict(AdaptConfig()), **fixed, **trial.parameters}


def _within(spec: Spec, config: Mapping[str, Any]) -> Parameters | None:
    """The searched parameters of a configuration; None where the space does not hold them."""
    parameters = settled(spec.space, spec.adapt, {key: config[key] for key in spec.space})
    for key, dimension in spec.space.items():
        if acts(dimension, spec.adapt, parameters) and not dimension.contains(parameters[key]):
            return None
    try:
        trial_config(spec, parameters)
    except ValueError:
        return None
    return parameters


def _alike(spec: Spec, config: Mapping[str, Any], parameters: Parameters) -> bool:
    """Whether the new search would measure just this configuration for these parameters."""
    return asdict(trial_config(spec, parameters)) == {key: config[key] for key in asdict(spec.adapt)}


def _front(folder: Path, earlier: Records, spec: Spec) -> list[Trial]:
    """The trials of the earlier front that this space holds, by filter rate, with their parameters in it."""
    names = earlier.settings[_OBJECTIVES]
    finished = earlier.in_state(State.FINISHED)
    values = np.array([values_of(names, trial.metrics) for trial in finished], dtype=np.float64)
    kept = non_dominated(values.reshape(len(finished), len(names)))
    front = [trial for trial, unbeaten in zip(finished, kept, strict=True) if unbeaten]
    front.sort(key=lambda trial: trial.metrics["filter_rate"])
    fitting = [replace(t, parameters=p) for t in front if (p := _within(spec, _config(earlier, t))) is not None]
    if not fitting:
        reason = "no point of its front lies in this space" if front else "no trial of it has finished"
        raise UserError(f"{FIRST} {short_path(folder)}: {reason}; expected a front that this search can try")
    return fitting


def _distinct(trials: Sequence[Trial], known: Sequence[Parameters]) -> list[Trial]:
    """The first trial of each configuration that is not known yet."""
    return list(_new(trials, list(known)))


def _new(trials: Sequence[Trial], known: list[Parameters]) -> Iterator[Trial]:
    for trial in trials:
        if trial.parameters not in known:
            known.append(trial.parameters)
            yield trial


def _spread(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most `most` of the trials, evenly spread and with both ends."""
    if len(trials) <= most:
        return list(trials)
    return [trials[round(place)] for place in np.linspace(0, len(trials) - 1, most)]
