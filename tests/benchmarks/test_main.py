"""The runner of the benchmarks: its page and its errors."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as runner
from tests.benchmarks.frame import Settings, Table, markdown

ROOT = Path(__file__).parents[2]


def test_quick_run_writes_a_page(tmp_path: Path) -> None:
    page = tmp_path / "docs" / "page.md"
    command = [sys.executable, "-m", "tests.benchmarks", "peak", "gpu", "--quick", "--out", str(page)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    text = page.read_text()
    assert f"python -m tests.benchmarks peak gpu --quick --out {page}" in text
    assert re.search(r"^- hardware: .+ cores, .+ GiB; GPU: .+$", text, re.M)
    assert re.search(r"^\| training epoch \| .+ \| \d+\.\d% \|$", text, re.M)
    assert "## (g)" in text


def test_unknown_name_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        runner.main()
    assert "unknown: nothing; expected names of training, trial" in capsys.readouterr().err


def test_missing_benchmark_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(runner, "BENCHMARKS", {"absent": ("absent", "absent"), "gpu": ("gpu", "gpu")})
    monkeypatch.setattr(sys, "argv", ["bench", "absent", "gpu", "--quick", "--out", str(page)])
    monkeypatch.setattr(runner.torch, "set_num_threads", lambda count: None)
    assert runner.main() == 1
    text = page.read_text()
    assert "needs tests/benchmarks/absent.py, which is missing" in text
    assert "## (g)" in text


def test_every_benchmark_is_there() -> None:
    for module, _ in runner.BENCHMARKS.values():
        assert (ROOT / "tests" / "benchmarks" / f"{module}.py").exists(), module


def test_table_on_the_page() -> None:
    table = Table("T", "About.", ["a|b", "c"], [["x", 12345], [0.12345, None], [1234.5, 0.00001]])
    assert markdown(table) == (
        "## T\n\nAbout.\n\n| a\\|b | c |\n| --- | --- |\n| x | 12,345 |\n| 0.123 | - |\n| 1,234 | < 0.001 |\n"
    )


def test_default_page_is_left_alone_by_a_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runner, "PAGE", tmp_path / "performance.md")
    monkeypatch.setattr(runner, "BENCHMARKS", {"one": ("gpu", "gpu")})
    monkeypatch.setattr(runner.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(runner, "_run", lambda name, settings: Table(name, str(settings == Settings()), [], []))
    for arguments, written in ((["one"], False), (["--quick"], False), ([], True)):
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        assert runner.main() == 0
        assert runner.PAGE.exists() == written
