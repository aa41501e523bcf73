"""C beside Python: sources of this package, compiled for the processor that they run on when they are first used.

The library lies beside this package's bytecode, one per source, sizes and processor; where that folder cannot be
written, each process compiles one for itself, in seconds. Where there is no C compiler, `library` gives None and the
caller computes the same in torch. ETAREC_COMPILED=no asks for that everywhere, on a GPU as well: Triton needs a C
compiler, too.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from etarec.disk import whole_file

COMPILE_SECONDS = 120.0
FEW_THREADS = 3
# Sums may be taken in another order, as vector units want it; NaN and infinity stay what they are.
FLAGS = (
    "-O3",
    "-march=native",
    "-fno-aggressive-loop-optimizations",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-fassociative-math",
    "-freciprocal-math",
)


def kind() -> str:
    """What runs here on the CPU, for whoever has to know why numbers differ in their last digits."""
    return "compiled" if compiler() else "torch"


def forbidden() -> bool:
    """Whether the user wants torch to compute everything."""
    return os.environ.get("ETAREC_COMPILED") == "no"


@functools.cache
def compiler() -> str | None:
    """The C compiler that is used, if any."""
    if forbidden():
        return None
    found = (shutil.which(name) for name in (os.environ.get("CC") or "cc", "gcc", "clang"))
    return next((path for path in found if path), None)


def takes(scores: Tensor) -> bool:
    """Whether compiled code computes on a block of scores here.

    It does so in one thread; torch shares out the rows among its own, which is faster where they are many.
    """
    return takes_floats(scores) and scores.is_contiguous() and torch.get_num_threads() <= FEW_THREADS


def takes_floats(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


@functools.cache
def library(source: Path, *sizes: tuple[str, int]) -> ctypes.CDLL | None:
    """The loaded library; sizes are the constants of its source. None where there is no compiler, or it fails."""
    cc = compiler()
    if cc is None:
        return None
    constants = [f"-D{name}={value}" for name, value in sizes]
    texts = [file.read_text(encoding="utf-8") for file in (source, *sorted(source.parent.glob("*.h")))]
    key = "\0".join([*texts, cc, *FLAGS, *constants, _processor()])
    name = f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    kept = source.parent / "__pycache__" / name
    if kept.exists():
        return ctypes.CDLL(str(kept))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, name)
        if not _compiles([cc, *FLAGS, *constants, "-shared", "-fPIC", str(source), "-o", str(made), "-lm"]):
            return None
        return ctypes.CDLL(str(kept if _keeps(made, kept) else made))  # stays loaded when the file is gone


def _compiles(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=COMPILE_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _keeps(made: Path, kept: Path) -> bool:
    """Whether the library could be put into its place; other processes may put theirs there at the same time."""
    try:
        kept.parent.mkdir(exist_ok=True)
        with whole_file(kept) as partial:
            shutil.copy(made, partial)
    except OSError:
        return False
    return True


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()}"
