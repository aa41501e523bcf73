"""Signals that end a search: Ctrl-C, SIGTERM of `kill` and batch systems, SIGHUP of a terminal that is closed."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_OUTPUT = (1, 2)  # the file descriptors of standard output and standard error


def take_endings_for_ctrl_c() -> None:
    """Make SIGTERM and SIGHUP end a search as Ctrl-C does; after `ray.init` SIGTERM would abort.

    A SIGHUP that is ignored, as by `nohup`, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        terminals = [output for output in _OUTPUT if os.isatty(output)]
        signal.signal(signal.SIGHUP, lambda number, frame: _hang_up(terminals))


def _as_ctrl_c(*_: object) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell started this process in the background
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def _hang_up(terminals: list[int]) -> None:
    """End the search without its terminal: a line written there would now be an error.

    Shell and kernel both send SIGHUP. The second would kill a process that is on its way out, so it is ignored.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for output in terminals:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
    _as_ctrl_c()


@contextmanager
def signals_as_before() -> Iterator[None]:
    """Restore the signal handlers after the block. Ray Tune would go on catching Ctrl-C when its work is done."""
    with _handled({number: signal.getsignal(number) for number in (*_ENDING, signal.SIGUSR1)}):
        yield


@contextmanager
def hangup_left_to_this_process() -> Iterator[None]:
    """Processes that the block starts ignore SIGHUP: a terminal sends it to all, and this one ends them."""
    with _handled({signal.SIGHUP: signal.SIG_IGN}):
        yield


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and its like wait until the end of the block, which cleans up and takes seconds."""
    came: list[int] = []
    with _handled(dict.fromkeys(_ENDING, lambda number, frame: came.append(number))):
        yield
    if came:
        raise KeyboardInterrupt


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    """Handle signals in the block like this and after it as before. Only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
