"""The address of a running Ray cluster, looked at before Ray is imported."""

import os
import re
import socket
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


def check_address(address: str) -> None:
    """Raises UserError for an address at which no search can join a cluster.

    Ray itself tries a dead address for minutes; a closed port is known at once.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):  # Ray Client would write the records on the head node, away from --out
        raise UserError(f"--address {address}: start the search on a machine of the cluster, with `ray job submit`")
    found = re.fullmatch(r"([^:/\s]+):(\d{1,5})", address)
    if found is None:
        raise UserError(f"--address {address}: expected auto or HOST:PORT")
    try:
        socket.create_connection((found[1], int(found[2])), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise no_cluster(address, str(error)) from error


def no_cluster(address: str, reason: str, hint: str = "") -> UserError:
    """The error for an address at which no search can reach a cluster."""
    expected = "auto or the HOST:PORT that `ray start --head` prints"
    return UserError(f"--address {address}: no Ray cluster answers there ({reason}), expected {expected}{hint}")
