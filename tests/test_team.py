"""The files in mlflow/ for a team's tracking server. Tests marked `postgres` start it and run searches against it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml
from postgres import PASSWORD, Postgres
from tracked_searches import search_at_once
from tracking_server import Server

from search.records.records import Records
from search.records.states import State
from search.track import __main__ as track

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "mlflow"
SERVE = FOLDER / "serve.sh"
SECRETS = {"MLFLOW_AUTH_ADMIN_PASSWORD": "admin's own: 12+", "MLFLOW_FLASK_SERVER_SECRET_KEY": "5f" * 32}
URI = "postgresql+psycopg2://mlflow@127.0.0.1:9/mlflow"
ADMIN = ("admin", SECRETS["MLFLOW_AUTH_ADMIN_PASSWORD"])
ADA, BEN = ("ada", "ada's secret 12"), ("ben", "ben's secret 12")


# The files: no server is started


def serve(**environment: str) -> "subprocess.CompletedProcess[str]":
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run([SERVE], env={"PATH": path, **environment}, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "set MLFLOW_BACKEND_STORE_URI to postgresql"),
        ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///mlflow.db"}, "is not a Postgres database"),
        ({"MLFLOW_BACKEND_STORE_URI": URI}, "set MLFLOW_AUTH_ADMIN_PASSWORD"),
        ({"MLFLOW_BACKEND_STORE_URI": URI, **SECRETS, "MLFLOW_FLASK_SERVER_SECRET_KEY": ""}, "SECRET_KEY to a fixed"),
        ({"MLFLOW_BACKEND_STORE_URI": URI, **SECRETS, "MLFLOW_AUTH_ADMIN_PASSWORD": "short"}, "fewer than 12"),
        ({"MLFLOW_BACKEND_STORE_URI": URI, **SECRETS, "MLFLOW_PORT": "http"}, "expected a number"),
        ({"PATH": "/usr/bin:/bin"}, "the command mlflow was not found"),
    ],
)
def test_serve_sh_names_the_missing_or_wrong_variable(environment: dict[str, str], message: str) -> None:
    done = serve(**environment)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("serve.sh: ") and message in done.stderr and done.stderr.count("\n") == 1


def compose() -> dict[str, Any]:
    document = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


def test_compose_services_have_pinned_versions_health_checks_and_no_open_ports() -> None:
    services = compose()["services"]
    assert set(services) == {"server", "postgres", "minio", "bucket"}
    for name, service in services.items():
        assert re.search(r":[\w.-]*\d+\.\d+|:RELEASE\.\d", service["image"]), f"{name}: {service['image']}"
        assert ("ports" in service) == (name == "server")
        assert name == "bucket" or service["healthcheck"]["test"][0] == "CMD"
        for other in service.get("depends_on", {}):
            assert other in services
    assert services["server"]["ports"] == ["${MLFLOW_BIND:-127.0.0.1}:${MLFLOW_PORT:-5000}:5000"]
    assert set(compose()["volumes"]) == {"postgres", "minio"}
    recipe = services["server"]["build"]["dockerfile_inline"]
    assert re.search(r"FROM python:3\.\d+\.\d+-", recipe) and "USER mlflow" in recipe
    packages = re.findall(r'(?:"|\s)([a-z0-9-]+(?:\[auth\])?)==[\d.]+', recipe)
    assert packages == ["mlflow[auth]", "psycopg2-binary", "boto3"]


def test_compose_holds_no_secret_and_no_default_for_one() -> None:
    text = (FOLDER / "compose.yaml").read_text()
    for key in ("PASSWORD", "SECRET", "ACCESS_KEY"):
        for line in re.findall(rf"^ +\w*{key}\w*: .*$", text, flags=re.M):
            assert re.search(r": \$\{\w+:\?set it in \.env", line), line
    example = dict(line.split("=", 1) for line in (FOLDER / "env.example").read_text().splitlines() if "=" in line[:40])
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(example)
    assert all(example[name] == "" for name in used if re.search("PASSWORD|SECRET", name))
    assert ".env" in (FOLDER / ".gitignore").read_text().split()


def test_the_compose_server_has_the_settings_of_serve_sh() -> None:
    environment = compose()["services"]["server"]["environment"]
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert "localhost" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"]
    assert "localhost" in environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "default_permission" in compose()["configs"]["basic_auth"]["content"]


def test_the_installed_mlflow_has_every_option_in_use() -> None:
    known = subprocess.run(
        [sys.executable, "-m", "mlflow", "server", "--help"], capture_output=True, text=True, timeout=120
    ).stdout
    script = SERVE.read_text().partition("exec mlflow server")[2]
    command = compose()["services"]["server"]["command"]
    options = {word for word in f"{script} {command}".split() if word.startswith("--")}
    assert len(options) >= 7 and "basic-auth" in script and "basic-auth" in command
    assert {option for option in options if not re.search(rf"{option}\b", known)} == set()


# The server: marked `postgres`


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server started by serve.sh, with the users ada and ben."""
    folder = tmp_path_factory.mktemp("team")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {"MLFLOW_BACKEND_STORE_URI": postgres.new_database(), "PGPASSWORD": PASSWORD, "PATH": path}
    with Server(folder, [str(SERVE)], {**environment, **SECRETS}) as server:
        for name, password in (ADA, BEN):
            user = {"username": name, "password": password}
            made = requests.post(f"{server.address}/api/2.0/mlflow/users/create", json=user, auth=ADMIN, timeout=60)
            assert made.status_code == 200, made.text
        yield server


@pytest.fixture
def ada(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADA[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADA[1])
    return server


def ask(server: Server, path: str, auth: tuple[str, str] | None = ADA, **options: Any) -> requests.Response:
    method = "POST" if "json" in options else "GET"
    return requests.request(method, f"{server.address}/api/2.0/{path}", auth=auth, timeout=60, **options)


def new_search(out: Path, name: str) -> Path:
    out.mkdir()
    (out / "spec.yaml").write_text(f"name: {name}\n")
    records = Records(out)
    records.begin({})
    records.started(0, {"top_k": 3})
    records.ended(0, State.FAILED, "why \0", "Traceback \0")
    return out


SMALL = {
    "name": "team",
    "data": {"dataset": "simulated", "simulation": {"users": 250, "items": 120}},
    "train": {"epochs": 1},
    "adapt": {"batch_size": 64, "new_transitions_only": False},
    "space": {"top_k": {"low": 2, "high": 60, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0}},
    "search": {"trials": 3, "concurrency": 2, "bootstrap_replicates": 50},
}


@pytest.mark.postgres
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_a_search_is_complete_in_the_rest_api(ada: Server, tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text(yaml.safe_dump(SMALL))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ETAREC_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "search.tune", "--space", "team.yaml", "--out", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and not re.search(r"^warning: MLflow", done.stdout, re.M), done.stdout + done.stderr
    experiment = ask(ada, "mlflow/experiments/get-by-name?experiment_name=team").json()["experiment"]["experiment_id"]
    runs = ask(ada, "mlflow/runs/search", json={"experiment_ids": [experiment]}).json()["runs"]
    tags = [{tag["key"]: tag["value"] for tag in run["data"]["tags"]} for run in runs]
    (parent,) = [run["info"]["run_id"] for run, own in zip(runs, tags, strict=True) if "trial_id" not in own]
    children = [own["trial_id"] for own in tags if own.get("mlflow.parentRunId") == parent]
    assert sorted(name for name in children if name.startswith("trial-")) == ["trial-0000", "trial-0001", "trial-0002"]
    assert {"none", "all", "published"} <= set(children) and len(runs) == len(set(children)) + 1
    assert {run["info"]["status"] for run in runs} <= {"FINISHED", "KILLED"}  # MLflow has no state for a pruned trial
    front = [run for run, own in zip(runs, tags, strict=True) if own.get("pareto") == "true"]
    assert any("test_hr_at_10" in {m["key"] for m in run["data"]["metrics"]} for run in front)
    listed = ask(ada, f"mlflow/artifacts/list?run_id={parent}").json()["files"]
    assert {"report.html", "trials.csv", "pareto.csv"} <= {file["path"] for file in listed}
    stored = ask(ada, f"mlflow-artifacts/artifacts/{experiment}/{parent}/artifacts/report.md")
    assert stored.content == (tmp_path / "out/report.md").read_bytes()
    assert (ada.folder / "mlflow-state/artifacts" / experiment / parent / "artifacts/report.md").is_file()
    command = [sys.executable, "-m", "search.track", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and "nothing was missing" in done.stdout, done.stdout + done.stderr


@pytest.mark.postgres
@pytest.mark.parametrize("auth", [None, ("ada", "not hers at all"), ("nobody", ADA[1]), ("admin", "password1234")])
def test_a_request_without_a_valid_password_is_refused(server: Server, auth: tuple[str, str] | None) -> None:
    for path in ("mlflow/experiments/search", "mlflow/runs/search"):
        assert ask(server, path, auth, json={"max_results": 1}).status_code == 401
    assert ask(server, "mlflow-artifacts/artifacts?path=0", auth).status_code == 401
    assert requests.get(server.address, auth=auth, timeout=60).status_code == 401


@pytest.mark.postgres
def test_other_hosts_and_origins_are_refused(server: Server) -> None:
    search = {"path": "mlflow/experiments/search", "json": {"max_results": 1}}
    assert ask(server, **search).status_code == 200
    assert ask(server, **search, headers={"Host": f"localhost:{server.port}"}).status_code == 200
    assert ask(server, **search, headers={"Host": "evil.example"}).status_code == 403
    assert ask(server, **search, headers={"Host": "10.0.0.7"}).status_code == 403
    assert ask(server, **search, headers={"Origin": f"http://localhost:{server.port}"}).status_code == 200
    assert ask(server, **search, headers={"Origin": "http://evil.example"}).status_code == 403


@pytest.mark.postgres
def test_the_server_listens_on_loopback_without_telemetry_and_shows_no_secret(server: Server) -> None:
    assert server.process is not None
    tree = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in tree:
        assert not any(secret in " ".join(process.cmdline()) for secret in (PASSWORD, *SECRETS.values()))
    assert tree[0].environ()["MLFLOW_DISABLE_TELEMETRY"] == "true"
    addresses = {c.laddr.ip for p in tree for c in p.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert addresses == {"127.0.0.1"}
    assert (server.folder / "mlflow-state/basic_auth.ini").stat().st_mode & 0o077 == 0
    log = (server.folder / "server.log").read_text()
    assert not any(secret in log for secret in (PASSWORD, *SECRETS.values(), ADA[1]))


@pytest.mark.postgres
def test_a_user_who_may_not_write_is_told_which_permission_to_ask_for(
    ada: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track.main([str(new_search(tmp_path / "hers", "hers"))]) == 0
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", BEN[0])
    capsys.readouterr()
    assert track.main([str(new_search(tmp_path / "his", "his"))]) == 2
    printed = capsys.readouterr()
    assert "does not accept the user or password; set MLFLOW_TRACKING_USERNAME" in printed.err
    assert printed.err.count("\n") == 1 and ADA[1] not in printed.err
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", BEN[1])
    assert track.main([str(tmp_path / "his")]) == 0
    assert track.main([str(new_search(tmp_path / "his-in-hers", "hers"))]) == 2
    assert "ask for the permission EDIT on the experiment" in capsys.readouterr().err


@pytest.mark.postgres
def test_a_search_from_another_store_is_written_again(
    ada: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server answers 403, not 404, to a user who asks for a run that does not exist."""
    records = Records(new_search(tmp_path / "moved", "moved"))
    records.parent_tracked("f" * 32)
    records.tracked(0, "e" * 32)
    assert ask(ada, f"mlflow/runs/get?run_id={'f' * 32}").status_code == 403
    assert track.main([str(tmp_path / "moved")]) == 0, capsys.readouterr().err
    assert "2 runs created" in capsys.readouterr().out


@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_a_restart_keeps_runs_and_users(ada: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = new_search(tmp_path / "kept", "kept")
    assert track.main([str(out)]) == 0
    ada.signal(signal.SIGTERM)
    assert ada.process is not None and ada.process.wait(60) is not None
    ada.start()
    capsys.readouterr()
    assert track.main([str(out)]) == 0
    assert "nothing was missing" in capsys.readouterr().out


def environment_of(uri: str) -> Mapping[str, str]:
    return {"MLFLOW_TRACKING_URI": uri, "PGPASSWORD": PASSWORD}


@pytest.mark.postgres
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["database", pytest.param("server", marks=pytest.mark.slow)])
def test_eight_searches_at_once(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Directly into a new database, and through the server, where checking passwords takes time."""
    uri = request.getfixturevalue("ada").address if way == "server" else postgres.new_database()
    for name, value in environment_of(uri).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    search_at_once(uri, tmp_path, trials=20 if way == "database" else 5)
