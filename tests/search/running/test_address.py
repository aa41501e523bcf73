"""Addresses of clusters, before Ray is imported."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from etarec.config import UserError
from search.running.address import check_address, keep_token_private, use_cluster_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with a token for clusters."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").touch()
    return tmp_path


def test_a_cluster_is_shown_the_token(home: Path) -> None:
    use_cluster_token("auto")
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_the_user_s_own_setting_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    use_cluster_token("auto")
    assert os.environ["RAY_AUTH_MODE"] == "disabled"


def test_no_cluster_or_no_token_changes_nothing(home: Path) -> None:
    use_cluster_token(None)
    (home / ".ray/auth_token").unlink()
    use_cluster_token("auto")
    assert "RAY_AUTH_MODE" not in os.environ


def test_ray_is_not_imported_for_it() -> None:
    code = "import sys, search.running.address; print('ray' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("somewhere", "expected auto or HOST:PORT"),
        ("host:port", "expected auto or HOST:PORT"),
        ("ray://host:10001", "start the search on a machine of the cluster, with `ray job submit`"),
        ("127.0.0.1:99999", "no Ray cluster answers there"),
    ],
)
def test_an_address_without_a_cluster_is_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^--address {address}: {message}"):
        check_address(address)


def test_auto_is_looked_up_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("", "auto"):
        monkeypatch.setenv("RAY_ADDRESS", given)
        check_address("auto")


def test_a_closed_port_is_refused_and_an_open_one_is_not() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(UserError, match="no Ray cluster answers there"):
            check_address(address)
        listener.listen()
        check_address(address)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("ray://host:10001", "start the search on a machine of the cluster"),
        ("local", "expected auto or HOST:PORT"),
    ],
)
def test_auto_looks_at_the_address_that_ray_would_take(
    monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(UserError, match=f"^RAY_ADDRESS={given}: {message}"):
        check_address("auto")


def test_a_token_is_made_for_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_token_private()
    assert list(tmp_path.iterdir()) == []
    keep_token_private(lambda: "secret")
    file = tmp_path / ".ray/auth_token"
    assert file.read_text() == "secret"
    assert (stat.S_IMODE(file.parent.stat().st_mode), stat.S_IMODE(file.stat().st_mode)) == (0o700, 0o600)


def test_a_token_that_others_can_read_is_closed_to_them(home: Path) -> None:
    (home / ".ray/auth_token").write_text("secret")
    (home / ".ray/auth_token").chmod(0o644)
    keep_token_private(lambda: "another")
    assert (home / ".ray/auth_token").read_text() == "secret"
    assert stat.S_IMODE((home / ".ray/auth_token").stat().st_mode) == 0o600
