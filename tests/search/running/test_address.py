"""The token of a cluster: sent where there is one, without importing Ray."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.running.address import use_cluster_token

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("address", "has_token", "before", "after"),
    [
        ("host:6379", True, None, "token"),
        ("host:6379", True, "disabled", "disabled"),
        ("host:6379", False, None, None),
        (None, True, None, None),
    ],
)
def test_the_token_is_used_where_a_cluster_may_ask_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address, has_token, before, after
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "")  # so that the variable is put back after the test
    monkeypatch.delenv("RAY_AUTH_MODE")
    if before:
        monkeypatch.setenv("RAY_AUTH_MODE", before)
    if has_token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text("secret")
    use_cluster_token(address)
    assert os.environ.get("RAY_AUTH_MODE") == after


def test_it_comes_before_ray() -> None:
    code = "import sys, search.running.address; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
