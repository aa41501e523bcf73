"""A message after a process that ends without a chance to speak: killed, or ended by the C++ code of a library."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SCRIPT = 'read -r word; [ "$word" = done ] || printf "%s\\n" "$1" >&2'


@contextmanager
def last_words(text: str) -> Iterator[None]:
    """Print `text` on standard error if the process ends inside the block; not if the block raises.

    A shell waits for the end of a pipe that only this process holds open. Without a shell nothing is printed.
    """
    sys.stderr.flush()
    try:
        command = ["sh", "-c", _SCRIPT, "sh", text]  # the text is an argument of the script, never a part of it
        watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        watcher.communicate(b"done\n")
