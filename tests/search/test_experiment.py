"""The whole harness on a formula, through real Ray, Optuna and MLflow."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from formula import Formula

from etarec.config import UserError
from search import experiment
from search.experiment import Experiment
from search.records import provenance
from search.records.provenance import sources
from search.records.records import Records
from search.records.states import Ending, State
from search.running import scratch
from search.selection.pareto import non_dominated
from search.spec import Spec, load

pytestmark = pytest.mark.ray
TRIALS = 12
FILES = (
    *("spec.yaml", "provenance.json", "trials.csv", "trials.jsonl"),
    *("pareto.csv", "baselines.csv", "stream.csv", "chosen.yaml"),
)
REPORT = ("report.html", "report.md", "pareto.png", "pareto.svg")
SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "ada-of-the-test",
    "MLFLOW_TRACKING_PASSWORD": "hunter-22-password",
    "MLFLOW_TRACKING_TOKEN": "hunter-22-token",
    "AWS_SECRET_ACCESS_KEY": "hunter-22-key",
}


def spec_of(folder: Path, **search: object) -> Spec:
    document = {
        "name": "formula",
        "space": {
            "top_k": {"low": 2, "high": 500, "log": True},
            "entropy_quantile": {"low": 0.05, "high": 1.0},
            "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
        },
        "search": {"trials": TRIALS, "concurrency": 2, "bootstrap_replicates": 200, **search},
    }
    file = folder / "space.yaml"
    file.write_text(yaml.safe_dump(document))
    return load(file)


def run(folder: Path, subject: Formula, **search: object) -> tuple[Experiment, Ending]:
    ran = Experiment(spec_of(folder, **search), folder / "out")
    return ran, experiment.run(ran, subject, n_items=1000)


def client(folder: Path) -> mlflow.MlflowClient:
    return mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One search of the formula in which a trial raises, one is killed, and one reports NaN."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        subject = Formula(fails=(0.34, 0.35), kills=(0.73, 0.74), nan=(0.41, 0.42), log=folder / "measured")
        _, ending = run(folder, subject)
    assert ending is Ending.COMPLETE
    return folder


def test_every_file_of_the_contract_is_there(finished: Path) -> None:
    assert {*FILES, *REPORT} == {file.name for file in (finished / "out").iterdir()}


def test_no_file_and_no_run_holds_a_value_of_the_environment(finished: Path) -> None:
    files = [file for file in finished.rglob("*") if file.is_file()]
    assert {"mlflow.db", "trials.jsonl", "provenance.json"} <= {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        assert not [name for name, value in SECRETS.items() if value.encode() in content], file


def test_files_and_mlflow_agree_on_every_trial(finished: Path) -> None:
    table = pd.read_csv(finished / "out/trials.csv")
    assert len(table) == TRIALS
    store = client(finished)
    runs = store.search_runs([store.get_experiment_by_name("formula").experiment_id], max_results=1000)
    parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {r.data.tags["trial_id"]: r for r in runs if "mlflow.parentRunId" in r.data.tags}
    assert len(parents) == 1 and parents[0].info.status == "FINISHED"
    baselines = pd.read_csv(finished / "out/baselines.csv")
    assert len(children) == len(runs) - 1 == TRIALS + len(baselines)
    for row in table.itertuples():
        child = children[row.trial_id]
        assert child.info.status == row.state and child.info.run_id == row.mlflow_run_id
        assert child.data.params["top_k"] == str(row.top_k)
        if row.state == "FINISHED":
            assert child.data.metrics["hr_at_10"] == row.hr_at_10


def test_the_study_holds_the_same_trials(finished: Path) -> None:
    from search.running.suggest import Suggestions

    spec, records = spec_of(finished), Records(finished / "out")
    anchors = {name: anchor.metrics for name, anchor in records.anchors.items()}
    suggestions = Suggestions(spec, 2, anchors)
    for number in range(TRIALS):
        trial = records.trials[number]
        assert suggestions.ask() == trial.parameters  # the same without the records' help: suggestions are reproducible
        suggestions.tell(number, [trial.metrics["hr_at_10"], trial.metrics["filter_rate"]] if trial.metrics else None)
    suggestions.tell_rest()
    states = [{"COMPLETE": "FINISHED", "FAIL": "FAILED"}[trial.state.name] for trial in suggestions.study.trials]
    assert states == [str(records.trials[number].state) for number in range(TRIALS)]


def test_failures_have_their_reasons(finished: Path) -> None:
    failed = Records(finished / "out").in_state(State.FAILED)
    reasons = {trial.error for trial in failed}
    assert "RuntimeError: the formula was told to fail" in reasons
    assert "NotFiniteError: seconds is nan" in reasons
    assert any("worker process died" in reason for reason in reasons)
    assert all("formula.py" in trial.traceback for trial in failed if "RuntimeError" in trial.error)


def test_the_front_is_what_no_trial_and_no_anchor_beats(finished: Path) -> None:
    table = pd.read_csv(finished / "out/trials.csv").query("state == 'FINISHED'")
    front = pd.read_csv(finished / "out/pareto.csv")
    anchors = [anchor.metrics for anchor in Records(finished / "out").anchors.values()]
    rivals = pd.concat([table, pd.DataFrame(anchors)])[["hr_at_10", "filter_rate"]]
    expected = table[non_dominated(rivals.to_numpy())[: len(table)]]
    assert set(front.trial_id) == set(expected.trial_id)
    front = front[front.test_hr_at_10.notna()]  # of points that look alike, one is measured
    assert np.allclose(front.test_hr_at_10, front.valid_hr_at_10 * 0.9, atol=1 / 2000)
    assert (front.test_hr_at_10_low < front.test_hr_at_10).all() and (
        front.test_hr_at_10 < front.test_hr_at_10_high
    ).all()


def test_test_is_read_once_per_front_point_and_baseline_and_after_the_search(finished: Path) -> None:
    measured = (finished / "measured").read_text().splitlines()
    first_test = next(i for i, line in enumerate(measured) if line.startswith("test"))
    assert all(line.startswith("test") for line in measured[first_test:])
    front = pd.read_csv(finished / "out/pareto.csv").test_hr_at_10.count()
    assert len(measured) - first_test == front + len(pd.read_csv(finished / "out/baselines.csv"))


def test_baselines(finished: Path) -> None:
    table = pd.read_csv(finished / "out/baselines.csv").set_index("trial_id")
    along = [name for name in table.index if name.startswith("random ")]
    assert 2 < len(along) <= 8 and set(table.index) - set(along) == {"none", "all", "random", "naive", "published"}
    for name in along:  # the formula counts no sample as seen
        assert table.test_filter_rate[name] == pytest.approx(float(name.strip("random %")) / 100, abs=0.01)
    assert table.test_filter_rate["none"] == 1 and table.test_filter_rate["all"] == 0
    chosen = yaml.safe_load((finished / "out/chosen.yaml").read_text())
    front = pd.read_csv(finished / "out/pareto.csv").set_index("trial_id")
    assert table.test_filter_rate["random"] == pytest.approx(front.test_filter_rate[chosen["trial_id"]], abs=1e-3)
    assert table.test_delta_hr_at_10["all"] == 0 and table.test_delta_hr_at_10_p["all"] == 1
    assert table.test_delta_hr_at_10["none"] == pytest.approx(0.9 * (0.2 - 0.5))


def test_front_runs_are_marked_in_mlflow_and_the_report_is_an_artifact(finished: Path) -> None:
    store = client(finished)
    experiment_id = store.get_experiment_by_name("formula").experiment_id
    marked = store.search_runs([experiment_id], filter_string="tags.pareto = 'true'")
    front = pd.read_csv(finished / "out/pareto.csv").set_index("trial_id")
    assert {run.data.tags["trial_id"] for run in marked} == set(front.index)
    on_test = front[front.test_hr_at_10.notna()]
    assert 0 < len(on_test) <= len(marked)
    for run in marked:
        if run.data.tags["trial_id"] in on_test.index:
            assert run.data.metrics["test_hr_at_10"] == on_test.test_hr_at_10[run.data.tags["trial_id"]]
    (parent,) = [r for r in store.search_runs([experiment_id]) if "mlflow.parentRunId" not in r.data.tags]
    assert {"report.html", "trials.csv", "pareto.png"} <= {a.path for a in store.list_artifacts(parent.info.run_id)}


def test_provenance_counts(finished: Path) -> None:
    search = json.loads((finished / "out/provenance.json").read_text())["search"]
    assert search["requested"] == TRIALS == search["finished"] + search["failed"]
    assert search["failed"] == len(Records(finished / "out").in_state(State.FAILED))


@pytest.mark.slow
def test_too_many_failures_in_a_row_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran, ending = run(tmp_path, Formula(fails=(0, 2)), max_failures_in_a_row=3)
    assert ending is Ending.FAILING
    assert len(Records(ran.directory).in_state(State.FAILED)) in (3, 4)  # the one beside the last may still end
    assert "Every trial failed" in (ran.directory / "report.md").read_text()
    printed = capsys.readouterr()
    assert printed.err.count("error: every trial failed") == 1 and "--resume measures the trials" in printed.err
    assert printed.out.count("warning") == printed.out.count("a configuration could not be measured") == 7  # anchors


@pytest.mark.slow
def test_a_search_says_what_it_removes_of_a_killed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with TemporaryDirectory(prefix="e", dir="/tmp") as base:  # short, since sockets lie below
        monkeypatch.setenv("RAY_TMPDIR", base)
        left = Path(base, f"{scratch.PREFIX}{'0' * scratch.DIGITS}")
        left.mkdir()
        (left / scratch.MARKER).write_bytes(scratch._mark(left.name))
        run(tmp_path, Formula(), trials=1, random_points=0)
        assert f"removed {left}, the temporary files of a search that was killed" in capsys.readouterr().out
        assert not list(Path(base).iterdir())


def parent_state(folder: Path) -> str:
    runs = client(folder).search_runs([client(folder).get_experiment_by_name("formula").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    return str(parent.info.status)


@pytest.mark.slow
def test_a_search_in_which_every_trial_failed_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Resumed with as many trials it still fails; with more trials it can succeed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ran, ending = run(tmp_path, Formula(fails=(0, 2), log=tmp_path / "measured"), trials=2)
    assert ending is Ending.ALL_FAILED and parent_state(tmp_path) == "FAILED"
    printed = capsys.readouterr()
    said = "every trial failed, 2 of 2 with: RuntimeError: the formula was told to fail; "
    advice = "--resume does not repeat failed trials, so start a new search when the cause is fixed"
    assert printed.err == f"error: {said}{advice}\n"
    assert printed.out.count("warning") == printed.out.count("a configuration could not be measured") == 7  # anchors
    assert f"E{said[1:]}so there is no front" in (ran.directory / "report.md").read_text()
    assert "interrupted" not in (ran.directory / "report.md").read_text()
    told = json.loads((ran.directory / "provenance.json").read_text())["search"]
    assert (told["ending"], told["interrupted"], told["failed"]) == ("every trial failed", False, 2)

    same = Experiment(spec_of(tmp_path, trials=2), ran.directory, resume=True)
    assert experiment.run(same, Formula(log=tmp_path / "measured"), n_items=1000) is Ending.ALL_FAILED
    assert said in capsys.readouterr().err and len((tmp_path / "measured").read_text().splitlines()) == 7 + 2

    more = Experiment(spec_of(tmp_path, trials=4), ran.directory, resume=True)
    assert experiment.run(more, Formula(), n_items=1000) is Ending.COMPLETE and parent_state(tmp_path) == "FINISHED"
    assert not capsys.readouterr().err


@pytest.mark.slow
def test_a_search_in_which_adapting_harms_says_not_to_adapt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No adaptation beats every trial on validation, so the front is empty, and the baselines are the answer."""
    monkeypatch.chdir(tmp_path)
    ran, ending = run(tmp_path, Formula(harms=True), trials=3)
    assert ending is Ending.COMPLETE and len(pd.read_csv(ran.directory / "pareto.csv")) == 0
    chosen = yaml.safe_load((ran.directory / "chosen.yaml").read_text())
    assert (chosen["verdict"], chosen["trial_id"]) == ("do_not_adapt", None)
    printed = capsys.readouterr()
    assert "verdict     Do not adapt: it gains nothing.\n" in printed.out and not printed.err
    assert "Each of the 3 trials is beaten by a baseline on validation." in printed.out
    assert "next        confirm that on a model from another training seed:" in printed.out
    parents = client(tmp_path).search_runs([client(tmp_path).get_experiment_by_name("formula").experiment_id])
    (parent,) = [run for run in parents if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.tags["verdict"] == "do_not_adapt" and "chosen" not in parent.data.tags


@pytest.mark.slow
def test_a_baseline_that_is_not_finite_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, ending = run(tmp_path, Formula(nan_without_gate=True), trials=3, random_points=0)
    assert ending is Ending.COMPLETE
    table = pd.read_csv(tmp_path / "out/baselines.csv").set_index("trial_id")
    assert set(table.index) == {"none", "random", "naive", "published"}
    assert table.test_hr_at_10_low.notna().all() and table.test_delta_hr_at_10.isna().all()


@pytest.mark.slow
def test_a_trial_over_its_time_limit_fails_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran, ending = run(tmp_path, Formula(slow=(0.34, 0.35)), trials=5, trial_timeout=4.0)
    assert ending is Ending.COMPLETE
    failed = Records(ran.directory).in_state(State.FAILED)
    assert failed and {trial.error for trial in failed} == {"over its time limit of 4 s (search.trial_timeout)"}


def test_resume_with_another_setting_is_refused(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    resumed = Experiment(spec_of(finished, seed=1), finished / "out", resume=True)
    with pytest.raises(UserError, match=r"search.seed: was 0, now 1"):
        experiment.run(resumed, Formula(), n_items=1000)


def test_a_folder_that_another_search_has_taken_meanwhile_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another search may begin between the check of --out and the first line of the journal, while this one trains."""
    monkeypatch.chdir(finished)
    before = (finished / "out/trials.jsonl").read_bytes()
    with pytest.raises(UserError, match="another search came first"):
        run(finished, Formula(), trials=TRIALS + 2)
    assert (finished / "out/trials.jsonl").read_bytes() == before


def test_resume_with_changed_code_is_refused_unless_accepted(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "out", tmp_path / "out")
    monkeypatch.setattr(provenance, "sources", lambda: {**sources(), "etarec/gate.py": "changed"})
    resumed = Experiment(spec_of(tmp_path), tmp_path / "out", resume=True)
    with pytest.raises(UserError, match=r"code was changed: etarec/gate\.py$"):
        experiment.run(resumed, Formula(), n_items=1000)
    resumed = Experiment(spec_of(tmp_path, trials=TRIALS + 1), tmp_path / "out", resume=True, accept_changes=True)
    assert experiment.run(resumed, Formula(), n_items=1000) is Ending.COMPLETE
    told = json.loads((tmp_path / "out/provenance.json").read_text())["search"]
    assert told["accepted_changes"] == ["code was changed: etarec/gate.py"] and told["requested"] == TRIALS + 1


@pytest.mark.slow
def test_trials_shorter_than_a_worker_s_start_use_all_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default Tune gives a trial the first idle worker and cancels its own: one worker would measure all trials."""
    monkeypatch.chdir(tmp_path)
    run(tmp_path, Formula(sleep=1.0, processes=tmp_path / "processes"), trials=12, random_points=0)
    lines = (tmp_path / "processes").read_text().split("\n")[2:14]  # after both anchors
    of_trials = [line.split() for line in lines]
    assert len({process for process, _, _ in of_trials}) == 2
    assert {(threads, policy) for _, threads, policy in of_trials} == {("1", "passive")}


def test_anchors_are_measured_once_before_all_trials(finished: Path) -> None:
    measured = (finished / "measured").read_text().splitlines()
    gates = [line.split()[1] + " " + line.split()[2] for line in measured if line.startswith("valid")]
    first = ["open weights", *["random weights"] * 5, "eta none"]
    assert sorted(gates[:7]) == sorted(first) and gates.count("open weights") == gates.count("eta none") == 1
    events = [json.loads(line)["event"] for line in (finished / "out/trials.jsonl").read_text().splitlines()]
    assert events.index("started") > max(place for place, event in enumerate(events) if event == "anchor")
    assert events.count("anchor") == 7
    search = json.loads((finished / "out/provenance.json").read_text())["search"]
    assert search["anchors"]["none"]["hr_at_10"] == 0.2 and len(search["anchors"]) == 7
    assert 0 < search["area_share"] < 1 and search["gain_over_dice"] > 0
    store = client(finished)
    runs = store.search_runs([store.get_experiment_by_name("formula").experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    assert parent.data.metrics["area_share"] == search["area_share"]
