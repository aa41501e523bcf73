"""Cores and memory that Linux grants this process through its control groups, as a container or a batch system asks.

Both versions of control groups are read. A limit of a parent group holds for its children. Inside a container the
path in /proc/self/cgroup may be one of the host, so folders that do not exist are left out, and the mount's own root,
which is then the container's group, is read too.

Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

import math
from collections.abc import Iterator
from pathlib import Path

MOUNT, GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# Files of the limit, of the use, and the line of memory.stat that counts pages which the kernel drops when it must.
_MEMORY = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def memory() -> tuple[float, float]:
    """The most bytes that this process and its children may use, and those still free; infinite without a limit."""
    total = free = math.inf
    for controller, limit_file, use_file, droppable in _MEMORY:
        for folder in _folders(controller):
            limit, use = _number(folder / limit_file), _number(folder / use_file)
            if limit is None or use is None:
                continue
            total = min(total, limit)
            free = min(free, max(0.0, limit - use + _line(folder / "memory.stat", droppable)))
    return total, free


def cores() -> float:
    """The cores whose time this process and its children may use together; infinite without a limit."""
    shares = [_share(folder / "cpu.max") for folder in _folders("")]
    for folder in _folders("cpu"):
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
        shares.append(quota / period if quota and period and quota > 0 else math.inf)
    return min(shares, default=math.inf)


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process's group and its parents.

    controller: one of version 1, or an empty text for version 2.
    """
    try:
        groups = [line.split(":", 2) for line in GROUPS.read_text().splitlines()]
    except OSError:  # another system than Linux
        return
    for _, controllers, path in groups:
        if controller in controllers.split(","):
            folder = MOUNT / controller / path.strip("/")
            yield from (one for one in (folder, *folder.parents) if one.is_relative_to(MOUNT / controller))


def _number(file: Path) -> float | None:
    """The number in a file, infinite for `max`; None if there is none."""
    try:
        text = file.read_text().strip()
        return math.inf if text == "max" else float(text)
    except (OSError, ValueError):
        return None


def _line(file: Path, name: str) -> float:
    """The number behind a name in a file of names and numbers; 0 if there is none."""
    try:
        return float(dict(line.split() for line in file.read_text().splitlines())[name])
    except (OSError, ValueError, KeyError):
        return 0.0


def _share(file: Path) -> float:
    """Quota divided by period of a `cpu.max`; infinite for `max` or if there is no file."""
    try:
        quota, period = file.read_text().split()
        return math.inf if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        return math.inf
