"""The address of a running Ray cluster, looked at before Ray is imported."""

import os
import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from etarec.config import UserError

TOKEN_FILE = Path(".ray", "auth_token")  # in the home folder; Ray's own place for it


def use_cluster_token(address: str | None) -> None:
    """Makes Ray send the user's token, if there is one, to the cluster at `address`.

    Call it before Ray is first imported, which is when Ray reads RAY_AUTH_MODE. A cluster of Ray 2.60 asks for a token
    by default.
    """
    if address and (Path.home() / TOKEN_FILE).exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def keep_token_private(token: Callable[[], str] | None = None) -> None:
    """Close the token's file to other users, who could run code in a search with it; Ray opens it to everybody.

    token: makes the content of a file that is missing; without it, none is made.
    """
    file = Path.home() / TOKEN_FILE
    if token is not None and not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError), open(file, "x", opener=partial(os.open, mode=0o600)) as made:
            made.write(token())
    with suppress(OSError):  # there is none, or it is another user's
        if file.stat().st_mode & 0o077:
            file.chmod(0o600)


def check_address(address: str) -> None:
    """Raises UserError for an address at which no search can join a cluster.

    Ray itself tries a dead address for minutes; a closed port is known at once. Ray prefers RAY_ADDRESS to `auto`.
    """
    if address == "auto":
        given = os.environ.get("RAY_ADDRESS", "")
        if given not in ("", "auto"):
            _check(given, f"RAY_ADDRESS={given}")
        return
    _check(address, f"--address {address}")


def _check(address: str, source: str) -> None:
    if address.startswith("ray://"):  # Ray Client would write the records on the head node, away from --out
        raise UserError(f"{source}: start the search on a machine of the cluster, with `ray job submit`")
    found = re.fullmatch(r"([^:/\s]+):(\d{1,5})", address)
    if found is None:
        raise UserError(f"{source}: expected auto or HOST:PORT")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(source, str(error)) from error


def no_cluster(source: str, reason: str, hint: str = "") -> UserError:
    """The error for an address at which no search can reach a cluster; `source` tells the address and who gave it."""
    expected = "auto or the HOST:PORT that `ray start --head` prints"
    return UserError(f"{source}: no Ray cluster answers there ({reason}), expected {expected}{hint}")
