"""Earlier searches: what is taken from them, what is refused and why."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from earlier_search import DIGESTS, written

from etarec.config import UserError
from search.records.provenance import Provenance, settings
from search.records.records import Records
from search.records.start import Start
from search.records.states import State
from search.spec import Spec, load
from search.warm_start import FIRST, TRAINED, WARM, Folders, start

SPACE: dict[str, Any] = {
    "top_k": {"low": 2, "high": 500, "log": True},
    "entropy_quantile": {"low": 0.05, "high": 1.0},
    "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
}
TRIALS = [
    {"top_k": 50, "entropy_quantile": quantile, "cosine_threshold": 1.0} for quantile in (0.9, 0.3, 0.5, 0.7, 0.1)
] + [{"top_k": 400, "entropy_quantile": 0.5, "cosine_threshold": 0.5}]  # beaten
Make = Callable[..., Spec]


@pytest.fixture
def spec(tmp_path: Path) -> Make:
    def _spec(space: dict[str, Any] = SPACE, **sections: Any) -> Spec:
        file = tmp_path / "space.yaml"
        search = {"trials": 64, **sections.pop("search", {})}
        file.write_text(yaml.safe_dump({"space": space, "search": search, **sections}))
        return load(file)

    return _spec


@pytest.fixture
def earlier(tmp_path: Path, spec: Make) -> Path:
    written(tmp_path / "earlier", spec(), TRIALS)
    return tmp_path / "earlier"


def begun(spec: Spec, warm: tuple[Path, ...] = (), first: tuple[Path, ...] = (), about: Provenance = DIGESTS) -> Start:
    return start(spec, settings(spec, about), Folders(warm, first))


def test_finished_trials_are_taken_with_their_results(earlier: Path, spec: Make) -> None:
    records = Records(earlier)
    records.started(6, {**TRIALS[0], "top_k": 3})
    records.ended(6, State.FAILED, "why")
    taken = begun(spec(search={"seed": 7, "trials": 3, "sampler": "tpe"}), (earlier,))
    assert [trial.parameters for trial in taken.trials] == TRIALS and not taken.first
    assert [trial.number for trial in taken.trials] == list(range(6))
    assert [trial.metrics for trial in taken.trials] == [records.trials[number].metrics for number in range(6)]
    assert taken.trials[2].source == f"{earlier}/trial-0002" and taken.trials[2].mlflow_run_id == ""
    assert [str(source) for source in taken.sources] == [f"6 trials of {earlier}"]


def test_the_journal_keeps_them_so_that_a_resumed_search_needs_no_other_folder(
    earlier: Path, tmp_path: Path, spec: Make
) -> None:
    (tmp_path / "new").mkdir()
    taken, new = begun(spec(), (earlier,), (earlier,)), Records(tmp_path / "new")
    new.begin({"a": 1}, start=taken)
    read = Records(tmp_path / "new")
    assert read.taken == new.taken == taken.trials
    assert (read.first, read.sources) == (taken.first, taken.sources)
    Folders((earlier,), (earlier,)).check_resumed(read)
    with pytest.raises(UserError, match=f"^{WARM} .*other: the search in .*new began without it; leave it out"):
        Folders((tmp_path / "other",)).check_resumed(read)


def test_a_search_that_took_trials_can_be_taken_too_and_no_trial_twice(
    earlier: Path, tmp_path: Path, spec: Make
) -> None:
    (tmp_path / "second").mkdir()
    second = Records(tmp_path / "second")
    second.begin(settings(spec(), DIGESTS), start=begun(spec(), (earlier,)))
    second.started(6, {**TRIALS[0], "top_k": 3})
    second.finished(6, Records(earlier).trials[0].metrics, {})
    taken = begun(spec(), (tmp_path / "second", earlier))
    assert [trial.source.removeprefix(f"{tmp_path}/") for trial in taken.trials] == [
        *(f"earlier/trial-000{number}" for number in range(6)),
        "second/trial-0006",
    ]
    assert [source.trials for source in taken.sources] == [7, 0]


@pytest.mark.parametrize(
    ("sections", "about", "reason"),
    [
        (
            {},
            Provenance(data={"sha256": "other"}, checkpoint=DIGESTS.checkpoint),
            'data sha256: there "data", here "other"',
        ),
        ({}, Provenance(data=DIGESTS.data, checkpoint={"sha256": "other"}), 'checkpoint sha256: there "checkpoint"'),
        ({}, Provenance(DIGESTS.started, DIGESTS.data, DIGESTS.checkpoint, {"sha256": "a"}), "rehearsal checkpoint"),
        ({"data": {"dataset": "simulated", "valid_share": 0.1}}, DIGESTS, "data.valid_share: there 0.2, here 0.1"),
        ({"data": {"dataset": "simulated", "order": "user"}}, DIGESTS, 'data.order: there "position", here "user"'),
        ({"search": {"objectives": ["ndcg_at_10", "filter_rate"]}}, DIGESTS, "search.objectives"),
        ({"adapt": {"learning_rate": 0.5}}, DIGESTS, "adapt.learning_rate: there 0.001, here 0.5; expected"),
    ],
)
def test_another_problem_is_refused_with_its_difference(
    earlier: Path, spec: Make, sections: dict[str, Any], about: Provenance, reason: str
) -> None:
    with pytest.raises(UserError) as refused:
        begun(spec(**sections), (earlier,), about=about)
    assert str(refused.value).startswith(f"{WARM} {earlier}: ") and reason in str(refused.value)
    assert FIRST in str(refused.value)


def test_before_training_its_digests_are_not_compared(earlier: Path, spec: Make) -> None:
    untrained = settings(spec(), Provenance(data=DIGESTS.data))
    assert len(start(spec(), untrained, Folders((earlier,)), TRAINED).trials) == 6


def test_a_search_whose_settings_changed_on_the_way_is_refused(earlier: Path, spec: Make) -> None:
    now = settings(spec(), DIGESTS)
    Records(earlier).begin({**now, "code": {}}, accept_changes=True)
    assert begun(spec(), (earlier,)).trials  # other code is no other problem
    Records(earlier).begin({**now, "adapt.momentum": 0.1}, accept_changes=True)
    Records(earlier).begin(now, accept_changes=True)
    with pytest.raises(UserError, match=r"its settings changed while it ran \(adapt.momentum\)"):
        begun(spec(), (earlier,))


def test_only_configurations_of_the_space_are_taken(earlier: Path, spec: Make) -> None:
    narrower = {**SPACE, "entropy_quantile": {"low": 0.4, "high": 1.0}}
    assert [trial.parameters["entropy_quantile"] for trial in begun(spec(narrower), (earlier,)).trials] == [
        0.9,
        0.5,
        0.7,
        0.5,
    ]
    fixed = {key: SPACE[key] for key in ("top_k", "entropy_quantile")}
    taken = begun(spec(fixed, adapt={"cosine_threshold": 0.5}), (earlier,)).trials
    assert [trial.parameters for trial in taken] == [{"top_k": 400, "entropy_quantile": 0.5}]
    with pytest.raises(UserError, match="none of its configurations lies in this space"):
        begun(spec({**SPACE, "top_k": {"low": 600, "high": 700}}), (earlier,))


def test_a_front_is_tried_first_whatever_its_data(earlier: Path, spec: Make) -> None:
    other = Provenance(data={"sha256": "other"}, checkpoint={"sha256": "other"})
    new = begun(spec(), first=(earlier,), about=other)
    assert [point["entropy_quantile"] for point in new.first] == [0.9, 0.7, 0.5, 0.3, 0.1] and not new.trials
    assert [str(source) for source in new.sources] == [f"5 first trials from the front of {earlier}"]
    few = begun(spec(search={"trials": 12}), first=(earlier,), about=other)
    assert [point["entropy_quantile"] for point in few.first] == [0.9, 0.5, 0.1]
    narrower = {**SPACE, "entropy_quantile": {"low": 0.4, "high": 0.8}}
    assert [point["entropy_quantile"] for point in begun(spec(narrower), first=(earlier,)).first] == [0.7, 0.5]
    with pytest.raises(UserError, match=f"^{FIRST} .*: no point of its front lies in this space"):
        begun(spec({**SPACE, "top_k": {"low": 60, "high": 70}}), first=(earlier,))


def test_a_taken_trial_is_no_first_trial(earlier: Path, spec: Make) -> None:
    assert begun(spec(), (earlier,), (earlier,)).first == []


@pytest.mark.parametrize(
    ("flag", "folders"), [(WARM, Folders(warm=(Path("no"),))), (FIRST, Folders((), (Path("no"),)))]
)
def test_a_folder_without_a_search_is_refused(spec: Make, flag: str, folders: Folders) -> None:
    with pytest.raises(UserError, match=f"^{flag} no: holds no search; expected a folder with a trials.jsonl"):
        start(spec(), {}, folders)


def test_a_search_without_a_finished_trial_offers_nothing(tmp_path: Path, spec: Make) -> None:
    written(tmp_path / "empty", spec(), [])
    for folders in (Folders((tmp_path / "empty",)), Folders((), (tmp_path / "empty",))):
        with pytest.raises(UserError, match="no trial of it has finished"):
            start(spec(), settings(spec(), DIGESTS), folders)
