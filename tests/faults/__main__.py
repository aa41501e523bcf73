"""Kill searches at random moments and count what is lost.

    python -m tests.faults [--kills N] [--seed S] [--keep]

Half of the kills hit searches without a cluster: the driver, its whole process tree, Ctrl-C, a worker or the tracking
server. The other half hit searches on a cluster of several raylets: a node, the driver, a worker or the tracking
server. A search whose driver was killed is resumed. After every search, the journal, the table, the study and MLflow
are compared. The exit status is 1 if a trial is lost, duplicated or different between them, or if a process is left.
"""

import argparse
import contextlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import mlflow
import psutil

from tests.faults import program, verdict
from tests.faults.stage import Nodes, Search, TrackingServer, family, kill_all, restore_ctrl_c, wait_until
from tests.faults.verdict import Verdict

KINDS_ALONE = ("driver", "tree", "Ctrl-C", "worker", "tracking server")
KINDS_ON_CLUSTER = ("node", "driver", "node", "worker", "tracking server")
TRIALS, SLEEP = 20, 0.5
KILLS_PER_SEARCH = 5  # at most; then the search may end, and everything is compared
START_SECONDS = 15.0  # from the start of a search to its first measurement, about; kills fall before and after that
END_SECONDS = 150.0  # a process that lives longer after its search was killed is left behind
MAX_DOWN_SECONDS = 5.0  # of a killed tracking server


class Round:
    """One search after another with one tracking server, on a cluster or without, until all kills are made."""

    def __init__(self, folder: Path, nodes: Nodes | None, random: Random, kinds: list[str]):
        self.folder, self.nodes, self.random, self.kinds = folder, nodes, random, kinds
        self.server = TrackingServer(folder)
        self.store = mlflow.MlflowClient(self.server.uri)
        self.temporary = Path(tempfile.mkdtemp(prefix="ef", dir="/tmp"))
        self.found, self.made, self.searches = Verdict(), Counter[str](), 0
        self.left: list[str] = []
        self._ending: dict[psutil.Process, str] = {}

    def run(self) -> None:
        try:
            while self.kinds:
                self._search()
            self.left = self._left_behind()
        finally:
            self.server.kill()
            shutil.rmtree(self.temporary, ignore_errors=True)

    def _search(self) -> None:
        self.searches += 1
        folder = self.folder / f"search-{self.searches}"
        folder.mkdir()
        address = self.nodes.address if self.nodes else None
        search = Search(folder, TRIALS, SLEEP, self.server.uri, address, self.temporary)
        ends_with = len(self.kinds) - KILLS_PER_SEARCH
        while len(self.kinds) > max(0, ends_with):
            moment = time.monotonic() + self.random.uniform(0.0, START_SECONDS + TRIALS * SLEEP / program.CONCURRENCY)
            while search.running and time.monotonic() < moment:
                time.sleep(0.05)
            if not search.running:
                break
            self._kill(search, self.kinds[0])
        self._finish(search)

    def _kill(self, search: Search, kind: str) -> None:
        members = family(search.process)
        if kind == "worker":
            everybody = members + [m for node in (self.nodes.workers if self.nodes else []) for m in family(node)]
            workers = list(search.workers(everybody))
            if not workers:
                return
            kill_all([self.random.choice(workers)])
        elif kind == "node":
            assert self.nodes is not None
            self.nodes.kill(self.random)
        elif kind == "tracking server":
            self.server.kill()
            time.sleep(self.random.uniform(0.0, MAX_DOWN_SECONDS))
            self.server.start()
        else:
            self._end(search, kind, members)
        self.made[self.kinds.pop(0)] += 1
        print(f"  {sum(self.made.values()):3} {kind}", flush=True)

    def _end(self, search: Search, kind: str, members: list[psutil.Process]) -> None:
        """End the driver, check the journal, and resume the search."""
        has_begun = (search.directory / "trials.jsonl").exists()
        before = verdict.ended_trials(search.directory) if has_begun else {}
        if kind == "Ctrl-C":
            search.interrupt()
        else:
            kill_all(members if kind == "tree" else members[:1])
        self._watch(members[1:], kind)
        search.process.wait(timeout=180)
        if has_begun:
            self.found.add(verdict.after_kill(search.directory, before))
        search.start()

    def _watch(self, members: list[psutil.Process], kind: str) -> None:
        """Remember processes that must end. Ray's agents outlive a killed driver by about a minute."""
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._ending[member] = f"after {kind}: {' '.join(member.cmdline())[:100].strip()}"

    def _left_behind(self) -> list[str]:
        _, alive = psutil.wait_procs(list(self._ending), timeout=END_SECONDS)
        kill_all(alive)
        return [self._ending[member] for member in alive]

    def _finish(self, search: Search) -> None:
        self._watch(family(search.process)[1:], "the end")
        status = search.process.wait(timeout=400)
        wait_until("the tracking server", self.server.answers)
        if status != 0:
            self.found.lost.append(f"{search.folder}: exit status {status}\n{search.output[-3000:]}")
            return
        spec = program.spec_of(search.folder, TRIALS)
        self.found.add(verdict.after_search(search.directory, spec, self.store, program.CONCURRENCY))


@dataclass
class Tally:
    """The kills made, the searches run, the faults found and the processes left behind."""

    found: Verdict = field(default_factory=Verdict)
    made: Counter[str] = field(default_factory=Counter)
    searches: int = 0
    left: list[str] = field(default_factory=list)

    def add(self, played: Round) -> None:
        self.found.add(played.found)
        self.made += played.made
        self.searches += played.searches
        self.left += played.left

    def __str__(self) -> str:
        made = ", ".join(f"{kind} {count}" for kind, count in sorted(self.made.items()))
        texts = {**vars(self.found), "processes left behind": self.left}
        faults = (f"{name} {len(found)}" + "".join(f"\n  {text}" for text in found) for name, found in texts.items())
        return "\n".join([made, *faults])


def main() -> int:
    arguments = parse()
    restore_ctrl_c()
    os.environ["MLFLOW_TRACKING_URI"] = ""
    seed = secrets.randbits(31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="fx", dir="/tmp"))  # a short path, because Ray's sockets lie in it
    begin = time.monotonic()
    tally = play(folder, arguments.kills, Random(seed))
    kills, seconds = sum(tally.made.values()), time.monotonic() - begin
    print(f"{kills} kills in {tally.searches} searches of {TRIALS} trials, {seconds:.0f} s", tally, sep="\n")
    if tally.found or tally.left:
        return 1
    if not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def play(folder: Path, kills: int, random: Random) -> Tally:
    """Make half of the kills without a cluster and half on one."""
    tally, half = Tally(), kills // 2
    for name, kinds, count in (("alone", KINDS_ALONE, kills - half), ("cluster", KINDS_ON_CLUSTER, half)):
        (folder / name).mkdir()
        nodes = Nodes(folder / name, 2) if name == "cluster" else None
        print(f"{name}: {count} kills", flush=True)
        drawn = [kinds[n % len(kinds)] for n in range(count)]
        random.shuffle(drawn)
        played = Round(folder / name, nodes, random, drawn)
        try:
            played.run()
        finally:
            if nodes:
                nodes.stop()
        tally.add(played)
    return tally


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Kill searches and count what is lost.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, help="repeat the kills of an earlier run, as far as timing allows")
    parser.add_argument("--keep", action="store_true", help="keep the searches' folders")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
