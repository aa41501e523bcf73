"""A process that dies without a word gets one; a process that ends by itself does not."""

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, sys
from search.running.last_words import last_words
with last_words("error: it died; --resume goes on"):
    {}
"""


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "error: it died; --resume goes on\n"),
        ("os._exit(1)", "error: it died; --resume goes on\n"),
        ("pass", ""),
        ("sys.exit(3)", ""),
    ],
)
def test_the_message_follows_a_death(end: str, said: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(end)], capture_output=True, text=True, timeout=60)
    assert done.stderr == said


def test_a_death_of_the_whole_group_is_told_too() -> None:
    code = PROGRAM.format("os.killpg(os.getpgid(0), signal.SIGKILL)")
    started = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert started.communicate(timeout=60)[1] == "error: it died; --resume goes on\n"
    assert started.returncode == -signal.SIGKILL
