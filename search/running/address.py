"""Settings of a cluster's clients that Ray reads when it is imported. This module does not import Ray."""

import os
from pathlib import Path


def use_cluster_token(address: str | None) -> None:
    """Send the token of ~/.ray/auth_token to the cluster at `address`. Call this before Ray is imported.

    A cluster of Ray 2.60 refuses clients without its token, and Ray reads RAY_AUTH_MODE at import.
    """
    if address and (Path.home() / ".ray/auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
