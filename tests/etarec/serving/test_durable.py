"""A state outlives its process, however that ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from etarec.config import AdaptConfig, UserError
from etarec.serving import Durable, Recommender, load

from .made_up_run import made_up_run
from .observing import digest, observation

ROOT = Path(__file__).parents[3]
CONFIG = AdaptConfig(batch_size=12, learning_rate=0.03, top_k=5, criterion="loss", transitions="pending", dropout=0.1)


def left_behind(served: Durable) -> Path:
    """The folder as a killed process leaves it: nothing was closed, but its lock is free."""
    served._lock.release()
    return served.folder


def state_of(recommender: Recommender) -> tuple[object, ...]:
    weights = [weight.tolist() for weight in recommender.model.state_dict().values()]
    return weights, recommender.counts, len(recommender.waiting), recommender.costs()


def test_a_killed_process_continues_from_snapshot_and_journal(deployment, tmp_path):
    users, items = deployment.observations("test")
    unbroken = deployment.recommender(CONFIG)
    for begin in range(0, 80, 20):
        served = Durable(deployment.recommender(CONFIG), tmp_path / "state", every=50)
        assert served.recommender.counts["observations"] == begin
        served.observe(users[begin : begin + 20], items[begin : begin + 20])
        if begin == 40:
            served.flush()
        left_behind(served)
    unbroken.observe(users[:60], items[:60])
    unbroken.flush()
    unbroken.observe(users[60:80], items[60:80])
    last = Durable(deployment.recommender(CONFIG), tmp_path / "state")
    assert 0 < last.recovered < 35  # the rest is in the snapshot
    assert state_of(last.recommender) == state_of(unbroken)
    assert len(list((tmp_path / "state").glob("journal-*"))) == 1


def test_an_observation_that_was_half_written_was_never_made(deployment, tmp_path):
    users, items = deployment.observations("test")
    served = Durable(deployment.recommender(CONFIG), tmp_path)
    served.observe(users[:20], items[:20])
    folder = left_behind(served)
    (journal,) = folder.glob("journal-*")
    with journal.open("ab") as file:
        file.write(b'{"users": ["user 1"], "it')
    again = Durable(deployment.recommender(CONFIG), folder)
    assert again.recovered == 20
    again.observe(users[20:30], items[20:30])
    left_behind(again)
    assert Durable(deployment.recommender(CONFIG), folder).recovered == 30


def test_a_damaged_line_is_named(deployment, tmp_path):
    served = Durable(deployment.recommender(CONFIG), tmp_path)
    journal = left_behind(served) / "journal-0.jsonl"
    journal.write_bytes(b'{"users": [], "items": []}\nnonsense\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        Durable(deployment.recommender(CONFIG), tmp_path)


def test_closing_leaves_a_snapshot_alone_and_a_second_process_is_refused(deployment, tmp_path):
    users, items = deployment.observations("test")
    served = Durable(deployment.recommender(CONFIG), tmp_path)
    with pytest.raises(UserError, match="another process serves from this folder"):
        Durable(deployment.recommender(CONFIG), tmp_path)
    with pytest.raises(UserError, match="expected pairs"):
        served.observe(["one"], [])
    served.observe(users[:30], items[:30])
    expected = served.recommend(users[:3], k=4)
    served.close()
    again = Durable(deployment.recommender(CONFIG), tmp_path)
    assert again.recovered == 0 and again.recommend(users[:3], k=4) == expected
    assert np.isfinite(expected[0].scores).all()


@pytest.mark.slow
def test_three_real_kills_change_nothing(tmp_path):
    run, state = made_up_run(tmp_path), tmp_path / "state"
    command = [sys.executable, "-m", "tests.etarec.serving.observing", str(run), str(state), "240"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    killed_at = []
    for deaths in (37, 95, 170):
        with subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for line in process.stdout:
                if int(line) >= deaths:
                    break
            os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        killed_at.append(deaths)
    last = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = last.stdout.splitlines()
    assert int(lines[0]) > killed_at[-1] and int(lines[-2]) == 240
    torch.set_num_threads(1)
    unbroken = load(run)
    for number in range(240):
        unbroken.observe(*([one] for one in observation(unbroken, number)))
    assert lines[-1] == digest(unbroken)
