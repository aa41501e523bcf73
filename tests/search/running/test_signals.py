"""Signals that end a search: each acts as Ctrl-C, waits for cleaning up, and leaves no handler behind."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from search.running.signals import (
    hangup_left_to_this_process,
    signals_as_before,
    take_endings_for_ctrl_c,
    uninterrupted,
)

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def handlers_restored():
    before = {number: signal.getsignal(number) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ENDING)
def test_each_ends_a_search_as_ctrl_c_does(number: signal.Signals) -> None:
    take_endings_for_ctrl_c()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_an_ignored_hangup_stays_ignored() -> None:
    """`nohup` ignores it for a search that outlives its terminal."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    take_endings_for_ctrl_c()
    signal.raise_signal(signal.SIGHUP)


def test_a_search_without_its_terminal_goes_on_to_its_end() -> None:
    """A line written to a terminal that is gone is an error, and shell and kernel each send a SIGHUP."""
    code = (
        "import sys\nfrom search.running.signals import take_endings_for_ctrl_c\ntake_endings_for_ctrl_c()\n"
        "try:\n    print('ready', flush=True)\n    import time; time.sleep(60)\nexcept KeyboardInterrupt:\n"
        "    import os, signal; os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('on a closed terminal', flush=True)\n    sys.exit(130)\n"
    )
    terminal, side = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdout=side, stderr=side, start_new_session=True) as ended:
        os.close(side)
        said = b""
        while not said.endswith(b"\n"):  # a terminal that is closed within a line makes its writer fail
            said += os.read(terminal, 100)
        assert said.strip() == b"ready"
        os.close(terminal)
        ended.send_signal(signal.SIGHUP)
        assert ended.wait(timeout=30) == 130


def test_cleaning_up_is_finished_before_the_search_ends() -> None:
    done = []

    def clean_up() -> None:
        with uninterrupted():
            for number in ENDING:
                signal.raise_signal(number)
            done.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert done == ["cleaned up"]
    with uninterrupted():
        pass


def test_processes_that_are_started_ignore_a_hangup() -> None:
    code = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    before = signal.getsignal(signal.SIGHUP)
    with hangup_left_to_this_process():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n" and signal.getsignal(signal.SIGHUP) is before


def test_the_handlers_of_ctrl_c_come_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with signals_as_before():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGINT) is before
