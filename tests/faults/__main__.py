"""Kills searches at random moments and counts what that lost.

    python -m tests.faults [--kills N] [--seed S] [--keep]

On this machine alone: the driver, its whole process tree, Ctrl-C, a worker, the tracking server. On a cluster of
several raylets: a node, the driver, a worker, the tracking server. After every kill of a driver the search is resumed;
after every search journal, table, study and MLflow are compared. Exit status 1 if anything is lost, there twice or not
the same everywhere.
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
from pathlib import Path
from random import Random

import mlflow
import psutil

from tests.faults import program, verdict
from tests.faults.stage import Nodes, Search, TrackingServer, family, heed_ctrl_c, kill_all, wait_until
from tests.faults.verdict import Verdict

ALONE = ("driver", "tree", "Ctrl-C", "worker", "tracking server")
CLUSTER = ("node", "driver", "node", "worker", "tracking server")
TRIALS, SLEEP = 20, 0.5
KILLS = 5  # of one search, at most; then it may end, and everything is compared
BEGIN = 15.0  # seconds after which a search that was started measures, about: kills fall before and after that
ENDING = 150.0
PAUSE = 5.0  # seconds that a killed tracking server stays away, at most


class Round:
    """Searches one after the other with one tracking server, on one cluster or none, until all kills are made."""

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
        ends_with = len(self.kinds) - KILLS
        while len(self.kinds) > max(0, ends_with):
            moment = time.monotonic() + self.random.uniform(0.0, BEGIN + TRIALS * SLEEP / program.CONCURRENCY)
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
            time.sleep(self.random.uniform(0.0, PAUSE))
            self.server.start()
        else:
            self._end(search, kind, members)
        self.made[self.kinds.pop(0)] += 1
        print(f"  {sum(self.made.values()):3} {kind}", flush=True)

    def _end(self, search: Search, kind: str, members: list[psutil.Process]) -> None:
        """Ends the program, and starts it again after a look at what it left."""
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
        """Ray's agents outlive a killed driver by a minute; who is there after ENDING seconds is left behind."""
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._ending[member] = f"after {kind}: {' '.join(member.cmdline())[:100].strip()}"

    def _left_behind(self) -> list[str]:
        _, alive = psutil.wait_procs(list(self._ending), timeout=ENDING)
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


def main() -> int:
    arguments = parse()
    heed_ctrl_c()
    os.environ["MLFLOW_TRACKING_URI"] = ""
    seed = secrets.randbits(31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    random, found, made, searches, left = Random(seed), Verdict(), Counter[str](), 0, list[str]()
    folder = Path(tempfile.mkdtemp(prefix="fx", dir="/tmp"))  # short, since sockets lie below
    begin = time.monotonic()
    half = arguments.kills // 2
    for name, kinds, count in (("alone", ALONE, arguments.kills - half), ("cluster", CLUSTER, half)):
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
        found.add(played.found)
        made, searches, left = made + played.made, searches + played.searches, left + played.left
    print(f"{sum(made.values())} kills in {searches} searches of {TRIALS} trials, {time.monotonic() - begin:.0f} s")
    print(", ".join(f"{kind} {count}" for kind, count in sorted(made.items())))
    for name, texts in vars(found).items():
        print(f"{name} {len(texts)}", *texts, sep="\n  ")
    print(f"processes left behind {len(left)}", *left, sep="\n  ")
    if not found and not left and not arguments.keep:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if found or left else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Kill searches and count what is lost.")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, help="repeats the kinds of kills and their moments, as far as time allows")
    parser.add_argument("--keep", action="store_true", help="keep the searches' folders")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
