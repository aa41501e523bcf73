"""`python -m search.tune`: what the user can fix ends in seconds with one message, and nothing was started or written.

Nobody imports search.tune, so most tests run it as `-m` does, but inside this process, where torch, Ray and MLflow are
imported already.
"""

import gzip
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import yaml
from tiny import TINY

from search import experiment, prepare
from search.records.states import Ending
from search.track import live
from search.warm_start import Folders

ROOT = Path(__file__).parents[2]
LOG = "user_id,item_id,timestamp\n" + "".join(f"u{u},i{i},{i}\n" for u in range(9) for i in range(9))
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("ETAREC_CACHE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    Path("space.yaml").write_text(yaml.safe_dump({**TINY, "search": {"trials": 3}}))
    Path("log.csv").write_text(LOG)
    Path("header.csv").write_text("user_id,item_id,timestamp\n")
    Path("columns.csv").write_text(LOG.replace("item_id", "product"))
    Path("one_item.csv").write_text("user_id,item_id,timestamp\n" + "".join(f"u{u},i,{u}\n" for u in range(9)))
    Path("bomb.csv.gz").write_bytes(gzip.compress(b"user_id,item_id,timestamp\n" + bytes([120]) * 2**24))
    Path("broken.csv.gz").write_bytes(gzip.compress(os.urandom(2000).hex().encode())[:-900])
    Path("empty.yaml").write_text("")
    Path("binary.yaml").write_bytes(bytes(range(256)))
    Path("file").write_text("")
    Path("used").mkdir()
    Path("used/trials.jsonl").write_text("")
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the program on space.yaml, unless the arguments name another file."""

    def _run(*arguments: str) -> tuple[int, str, str]:
        space = () if "--space" in arguments else ("--space", "space.yaml")
        monkeypatch.setattr(sys, "argv", ["tune", *space, *arguments])
        monkeypatch.delitem(sys.modules, "search.tune", raising=False)  # another test of this process may import it
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("search.tune", run_name="__main__")
        return ended.value.code, *capsys.readouterr()  # type: ignore[return-value]

    return _run


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **options: object) -> None:
        raise AssertionError("started, although the user has to fix something")

    monkeypatch.setattr(ray, "init", started)
    monkeypatch.setattr(live.Tracker, "__init__", started)
    monkeypatch.setattr(prepare, "load_or_train", started)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set", "search={trails: 3}"], "space.yaml: search.trails: unknown key; did you mean trials?"),
        (["--set", "train.epochs=many"], 'space.yaml: train.epochs: given "many", expected an integer at least 1'),
        (["--set", "space.top_k.low=30"], "space.yaml: space.top_k: low (30) must be below high (20)"),
        (
            ["--set", "space={cosine_threshold: {low: 0, high: 1, log: true}}"],
            "space.yaml: space.cosine_threshold: a log scale needs low above 0, given 0",
        ),
        (
            ["--set", "space.entropy_quantile={low: 0.5, high: 1.5}"],
            "space.yaml: space.entropy_quantile.high: given 1.5, expected a number from 0 to 1",
        ),
        (["--trials", "0"], "space.yaml: search.trials: given 0, expected an integer at least 1 or auto"),
        (["--concurrency", "0"], "space.yaml: search.concurrency: given 0, expected an integer at least 1 or auto"),
        (["--set", "serch.trials=3"], "--set serch.trials=3: serch: unknown key; did you mean search?"),
        (["--space", "gone.yaml"], "gone.yaml: cannot be read: no such file or directory"),
        (["--space", "empty.yaml"], "empty.yaml: given nothing, expected a mapping of keys, at least `space`"),
        (["--space", "binary.yaml"], "binary.yaml: expected a YAML file in UTF-8, given other bytes at offset 128"),
        (["--space", "used"], "used: cannot be read: is a directory"),
        (["--set", "data.path=gone.csv"], "gone.csv: no such file; expected an interaction log"),
        (["--set", "data.path=header.csv"], "header.csv: holds no interactions"),
        (["--set", "data.path=columns.csv"], "columns.csv: column 'item_id' (data.columns.item) is missing"),
        (["--set", "data.path=broken.csv.gz"], "broken.csv.gz: cannot be read as a log: Compressed file ended"),
        (["--set", "data.path=log.csv", "data.k_core=20"], "leaves none of the 81 interactions"),
        (["--set", "data.path=one_item.csv", "data.k_core=0"], "one_item.csv: no user has 3 or more interactions"),
        (["--set", "data.path=bomb.csv.gz"], "bomb.csv.gz: the line behind the names is longer than 256 KiB"),
        (["--set", f"name={100 * '推'}"], f"{100 * '推'} cannot be written to (File name too long), expected a folder"),
        (["--set", "data.path=log.csv"], "space.yaml: space.top_k.high: given 20, expected at most 9, the number of"),
        (
            ["--set", "data.path=log.csv", "space.top_k.high=9", "data.columns.timestamp=null", "data.order=time"],
            "space.yaml: data.order 'time' needs timestamps",
        ),
        (["--set", "checkpoint=gone.safetensors"], "gone.safetensors: no such file; expected a checkpoint"),
        (["--set", "checkpoint=log.csv"], "log.csv: not a checkpoint of this program"),
        (["--out", "used"], "used: holds a search already; add --resume to finish it, or give another --out"),
        (["--out", "new", "--resume"], "new: holds no search to resume; expected a folder with a trials.jsonl"),
        (["--resume"], "runs/space: holds no search to resume"),
        (["--accept-changes"], "--accept-changes: there is nothing to accept without --resume"),
        (["--out", "file"], "file is a file, expected a folder"),
        (["--address", "127.0.0.1:1"], "--address 127.0.0.1:1: no Ray cluster answers there"),
        (["--address", "somewhere"], "--address somewhere: expected auto or HOST:PORT"),
        (["--address", "ray://host:10001"], "--address ray://host:10001: start the search on a machine of the cluster"),
        (
            ["--gpus-per-trial", "0.5"],
            "search.gpus_per_trial: given 0.5, expected at most 0, the number of GPUs",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["search", "dry run"])
def test_what_the_user_can_fix(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, arguments, expected, mode):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    before = contents(folder)
    status, _, err = run(*arguments, *(["--dry-run"] if mode == "dry run" else []))
    assert status == 2
    assert err.startswith("error: ") and expected in err
    assert len(err.splitlines()) == 1
    assert contents(folder) == before


@pytest.mark.usefixtures("nothing_starts")
def test_a_dry_run_shows_the_plan_and_writes_nothing(run: Run, folder: Path) -> None:
    before = contents(folder)
    status, out, err = run("--dry-run", "--trials", "5", "--concurrency", "2", "--out", "new")
    assert (status, err) == (0, "")
    planned = ("5 trials, sampler auto; files in new", "2 trials at once (", "1 thread each")
    for words in (*planned, "an epoch, at most 1", "one trial takes", "min of search"):
        assert words in out
    assert "experiment 'space' in sqlite:///mlflow.db" in out
    assert out.endswith("nothing was started or written (--dry-run)\n")
    assert contents(folder) == before


@pytest.mark.usefixtures("nothing_starts")
@pytest.mark.parametrize(
    "renamed",
    [
        {f"u{number}": "u0" for number in range(9)},
        {"u3": "u" * 10**6},
        {"u3": "<script>alert(1)</script>", "i3": "=cmd()", "i4": "\x1b[2J\u202e"},
    ],
    ids=["one user", "an id of a million characters", "hostile ids"],
)
def test_a_strange_log_is_searched_like_any_other(run: Run, renamed: dict[str, str]) -> None:
    rows = [line.split(",") for line in LOG.splitlines()]
    text = "".join(",".join(renamed.get(value, value) for value in row) + "\n" for row in rows)
    Path("strange.csv").write_text(text)
    status, out, err = run("--dry-run", "--set", "data.path=strange.csv", "space.top_k.high=9", "data.order=position")
    assert (status, err) == (0, "") and out.endswith("nothing was started or written (--dry-run)\n")
    assert len(out) < 4000 and "\x1b" not in out


@pytest.mark.parametrize("address", ["ray://ada:hunter22@head:10001", "redis://:hunter22@head:6379", "a:hunter22@h:1"])
def test_an_address_is_named_without_its_password(run: Run, address: str) -> None:
    status, out, err = run("--address", address)
    assert (status, out) == (2, "") and err.startswith("error: --address ") and "hunter22" not in err


@pytest.mark.parametrize("step", [(prepare, "prepare"), (experiment, "run")], ids=lambda step: step[1])
def test_ctrl_c_ends_without_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch, step) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", lambda search: FakeSubject())
    monkeypatch.setattr(*step, interrupted)
    assert run() == (130, "", "interrupted\n")


@pytest.mark.parametrize("debug", [(), ("--debug",)], ids=str)
def test_an_unforeseen_error_is_one_message_without_secrets(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, debug: tuple[str, ...]
) -> None:
    def fails(search: object) -> None:
        raise RuntimeError("no answer from https://db.example/store?token=hunter22: hunter22 is unknown")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://db.example/store?token=hunter22")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(prepare, "prepare", lambda search: FakeSubject())
    monkeypatch.setattr(experiment._Search, "run", fails)
    status, out, err = run("--out", "mine", *debug)
    assert (status, out) == (1, "") and "hunter22" not in err and ("Traceback" in err) == bool(debug)
    assert "RuntimeError: no answer from https://db.example/store?...: ... is unknown" in err
    assert "mine keeps the trials so far; the same command with --resume goes on" in err
    kept = [file.read_text() for file in folder.glob("etarec-error-*.txt")]
    assert len(kept) == (0 if debug else 1) and not any("hunter22" in text for text in kept)


@pytest.mark.parametrize(
    ("ending", "status"),
    [(Ending.COMPLETE, 0), (Ending.INTERRUPTED, 130), (Ending.FAILING, 1), (Ending.ALL_FAILED, 1)],
)
def test_arguments_reach_the_search(run: Run, folder, monkeypatch: pytest.MonkeyPatch, ending, status) -> None:
    searches = []
    monkeypatch.setattr(prepare, "prepare", lambda search: searches.append(search) or FakeSubject())
    monkeypatch.setattr(experiment, "run", lambda search, subject, n_items: (searches.append(n_items), ending)[1])
    flags = ["--trials", "7", "--concurrency", "auto", "--gpus-per-trial", "0.25", "--address", "host:1"]
    changes = ["--set", "search.seed=3", "search.trials=8", "--set", "name=other"]
    assert run(*flags, *changes) == (status, "", "")
    search, n_items = searches
    assert (search.spec.search.trials, search.spec.search.seed, search.spec.search.gpus_per_trial) == (7, 3, 0.25)
    assert (search.directory, search.address, search.resume) == (folder / "runs/other", "host:1", False)
    assert n_items == 41
    assert run("--resume", "--out", "used")[0] == status
    assert (searches[2].directory, searches[2].resume) == (folder / "used", True)
    assert searches[2].earlier == Folders()
    run("--warm-start", "used", "--first-trials", "front", "--warm-start", "other")
    assert searches[4].earlier == Folders((folder / "used", folder / "other"), (folder / "front",))


class FakeSubject:
    """The part of a subject that `main` uses: the data of a catalogue of 41 items and the padding."""

    @property
    def data(self) -> "FakeSubject":
        return self

    n_items = 42


def tune(*arguments: str, code: str = "") -> "subprocess.CompletedProcess[str]":
    """The program in a process of its own; `code`, if given, is run instead with the arguments in sys.argv."""
    program = ["-c", code] if code else ["-m", "search.tune"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["--space", "space.yaml", "--trials", "0"], 2),
        (["--space", "space.yaml", "--resume"], 2),
        ([], 2),
    ],
)
def test_help_and_mistakes_do_not_wait_for_imports(folder: Path, arguments: list[str], status: int) -> None:
    code = (
        "import runpy, sys\n"
        "try: runpy.run_module('search.tune', run_name='__main__', alter_sys=True)\n"
        "finally: print('imported:', *{'torch', 'ray', 'mlflow', 'pandas'} & sys.modules.keys())"
    )
    before = contents(folder)
    done = tune(*arguments, code=code)
    assert done.returncode == status
    assert done.stdout.endswith("imported:\n")
    assert "Traceback" not in done.stderr
    assert contents(folder) == before


@pytest.mark.slow
def test_a_process_of_its_own_ends_as_well(folder: Path) -> None:
    before = contents(folder)
    done = tune("--space", "space.yaml", "--set", "space.top_k.high=900")
    message = (
        "error: space.yaml: space.top_k.high: given 900, expected at most 54, the number of items in the catalogue\n"
    )
    assert (done.returncode, done.stderr) == (2, message)
    assert contents(folder) == before


def test_a_search_beside_earlier_ones_takes_the_next_folder(run: Run, folder, monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    monkeypatch.setattr(prepare, "prepare", lambda search: searches.append(search.directory) or FakeSubject())
    monkeypatch.setattr(experiment, "run", lambda search, subject, n_items: Ending.COMPLETE)
    for name in ("space", "space-2"):
        assert run()[0] == 0
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "trials.jsonl").write_text("")
    assert run("--resume")[0] == 0
    assert searches == [folder / "runs" / name for name in ("space", "space-2", "space-2")]
