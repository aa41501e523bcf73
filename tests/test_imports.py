"""The import contracts of pyproject.toml hold, and breaking one is noticed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHECK = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as check; check()"]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def check_contract(folder: Path) -> subprocess.CompletedProcess[str]:
    return run([*CHECK, "--no-logo", "--no-cache"], folder)


@pytest.fixture(scope="module")
def copied_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in ("etarec", "search"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_import_contracts_hold() -> None:
    result = check_contract(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " 0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "statement", "broken_contract"),
    [
        ("etarec/config/values.py", "import etarec.train", "etarec imports one way"),
        ("etarec/adapt/fisher.py", "import etarec.evaluate", "etarec imports one way"),
        ("etarec/unplaced.py", "", "etarec imports one way"),
        ("search/selection/stats.py", "import search.tune", "search imports one way, and nobody imports search.tune"),
        ("etarec/config/values.py", "import search", "etarec knows nothing of the harness"),
        ("etarec/train.py", "import ray", "etarec knows nothing of the harness"),
        (
            "search/subject.py",
            "def late():\n    import ray.tune",
            "only search.running imports Ray and Optuna",
        ),
        (
            "search/spec/spec.py",
            "from optuna import distributions",
            "only search.running imports Ray and Optuna",
        ),
        ("search/selection/front.py", "import optuna", "only search.running imports Ray and Optuna"),
        ("search/table/__main__.py", "import ray", "only search.running imports Ray and Optuna"),
        ("search/track/mirror.py", "import ray.tune", "only search.running imports Ray and Optuna"),
        ("search/records/records.py", "import mlflow", "only search.track imports MLflow"),
        ("search/running/runner.py", "import mlflow", "only search.track imports MLflow"),
        ("search/running/faults.py", "import search.running.pacing", "the parts of search.running import one way"),
        ("search/running/unplaced.py", "", "the parts of search.running import one way"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    copied_packages: Path, tmp_path: Path, module: str, statement: str, broken_contract: str
) -> None:
    folder = tmp_path / "packages"
    shutil.copytree(copied_packages, folder)
    for other in ("etarec/train.py", "search/tune.py"):
        (folder / other).touch()
    with (folder / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")

    result = check_contract(folder)

    assert result.returncode == 1, result.stdout + result.stderr
    assert f"{broken_contract} BROKEN" in result.stdout


def test_running_may_import_ray_and_optuna_and_track_mlflow(copied_packages: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    shutil.copytree(copied_packages, folder)
    for module, statement in (
        ("running/runner", "import ray.tune"),
        ("running/suggest", "import optuna"),
        ("track/mirror", "import mlflow.entities"),
    ):
        with (folder / "search" / f"{module}.py").open("a", encoding="utf-8") as file:
            file.write(f"\n{statement}\n")
    result = check_contract(folder)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_folder_mlflow_holds_no_python() -> None:
    assert [str(path.relative_to(ROOT)) for path in (ROOT / "mlflow").rglob("*.py*")] == []


def test_import_mlflow_finds_the_installed_package() -> None:
    result = run([sys.executable, "-c", "import mlflow; print(mlflow.__version__); print(mlflow.__file__)"], ROOT)
    assert result.returncode == 0, result.stderr
    version, file = result.stdout.split("\n")[:2]
    assert version
    assert "site-packages" in Path(file).parts
