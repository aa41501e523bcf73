"""A recommender whose state outlives its process: a snapshot, and a journal of what was observed since.

An observation is in the journal before the model learns it. A process that was killed continues with the same results:
it reads the snapshot and observes again what the journal holds. The journal is handed to the operating system at once
and outlives any death of the process. Only snapshots wait for the disk, so a machine that loses power may lose the
observations of its last seconds.
"""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from etarec.config import UserError
from etarec.serving import state
from etarec.serving.catalogue import Recommendation
from etarec.serving.recommender import Recommender, Told, check_pairs

SNAPSHOT = "snapshot.safetensors"
EVERY = 20_000


class Durable:
    """A recommender and the folder that keeps its state.

    Args:
        recommender: as it was made; it continues from the state in the folder, if there is one.
        folder: for one process at a time.
        every: observations after which a snapshot is taken, which bounds the journal.

    Raises UserError if another process uses the folder, or its state is damaged or of another recommender.
    """

    def __init__(self, recommender: Recommender, folder: Path, every: int = EVERY):
        self.recommender, self.folder, self.every = recommender, folder, every
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock", thread_local=False)  # a service closes on another thread
        try:
            self._lock.acquire(blocking=False)
        except Timeout as error:
            raise UserError(
                f"{folder}: another process serves from this folder; expected a folder of its own"
            ) from error
        path = folder / SNAPSHOT
        if not path.exists():
            state.write(recommender, path, 0)
        self._number = state.read(recommender, path)
        self.recovered = self._since = self._observe_again()
        for obsolete in set(folder.glob("journal-*.jsonl")) - {self._path()}:
            obsolete.unlink()

    def recommend(
        self, users: Sequence[str | Sequence[str]], k: int = 10, *, leave_out_seen: bool = False
    ) -> list[Recommendation]:
        """As `Recommender.recommend`."""
        return self.recommender.recommend(users, k, leave_out_seen=leave_out_seen)

    def observe(self, users: Sequence[str], items: Sequence[str]) -> Told:
        """As `Recommender.observe`, once the journal holds it."""
        check_pairs(users, items)
        self._write({"users": list(users), "items": list(items)})
        told = self.recommender.observe(users, items)
        self._since += len(users)
        if self._since >= self.every:
            self.snapshot()
        return told

    def flush(self) -> Told:
        """As `Recommender.flush`."""
        self._write({"flush": True})
        return self.recommender.flush()

    def snapshot(self) -> None:
        """Write the state, and begin a new journal."""
        state.write(self.recommender, self.folder / SNAPSHOT, self._number + 1)
        former, self._number, self._since = self._path(), self._number + 1, 0
        former.unlink(missing_ok=True)

    def close(self) -> None:
        """Take a snapshot and leave the folder to others."""
        self.snapshot()
        self._lock.release()

    def _path(self) -> Path:
        """The journal behind the present snapshot. One that an earlier snapshot made obsolete has another name."""
        return self.folder / f"journal-{self._number}.jsonl"

    def _write(self, event: dict[str, Any]) -> None:
        with self._path().open("ab") as journal:
            journal.write(json.dumps(event).encode() + b"\n")

    def _observe_again(self) -> int:
        """Observe what the journal holds and return the number of observations."""
        count = 0
        for event in self._events():
            if event.get("flush"):
                self.recommender.flush()
            else:
                self.recommender.observe(event["users"], event["items"])
                count += len(event["users"])
        return count

    def _events(self) -> Iterator[dict[str, Any]]:
        """The journal's whole lines. A last line without its end was never acknowledged and is cut off."""
        path = self._path()
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}: line {number} is damaged ({error}); expected JSON") from error
