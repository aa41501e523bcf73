"""C beside Python: compiled once, kept where that is possible, and done without where there is no compiler."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from etarec.kernels import build, inner_loop_c, largest, softmax
from etarec.kernels.inner_loop_dual import dual
from etarec.ttt import TTTLayer

SOURCE = "int twice(int n) { return FACTOR * n; }\n"
SOURCES = sorted(Path(build.__file__).parent.glob("*.c"))
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Forgets libraries and compilers that were found, before the test and behind it."""
    found = (
        build.library,
        build.compiler,
        inner_loop_c._library,
        inner_loop_c._triton,
        largest._library,
        softmax._library,
    )
    for each in found:
        each.cache_clear()
    yield
    for each in found:
        each.cache_clear()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "twice.c").write_text(SOURCE)
    return tmp_path / "twice.c"


def kept(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").iterdir())


@needs_compiler
def test_it_is_compiled_once_and_anew_for_another_source_or_size(source):
    assert build.kind() == "compiled"
    for _ in range(2):
        assert build.library(source, ("FACTOR", 2)).twice(21) == 42
        build.library.cache_clear()
    (first,) = kept(source.parent)
    made = first.stat().st_mtime_ns
    assert build.library(source, ("FACTOR", 3)).twice(21) == 63
    source.write_text(SOURCE.replace("n;", "n + 1;"))
    build.library.cache_clear()
    assert build.library(source, ("FACTOR", 2)).twice(21) == 43
    assert len(kept(source.parent)) == 3 and first.stat().st_mtime_ns == made


@needs_compiler
def test_it_is_compiled_anew_for_another_header(source):
    source.write_text('#include "factor.h"\n' + SOURCE)
    for factor in (2, 3):
        source.with_name("factor.h").write_text(f"#define FACTOR {factor}\n")
        build.library.cache_clear()
        assert build.library(source).twice(21) == factor * 21


def test_double_precision_and_many_threads_are_left_to_torch(monkeypatch):
    assert build.takes(torch.empty(2, 3))
    assert not build.takes(torch.empty(2, 3, dtype=torch.float64)) and not build.takes(torch.empty(3, 2).T)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 16)
    assert not build.takes(torch.empty(2, 3))


@needs_compiler
def test_where_nothing_can_be_kept_a_process_compiles_for_itself(source):
    (source.parent / "__pycache__").write_text("a file, where a folder would have to be")
    assert build.library(source, ("FACTOR", 2)).twice(21) == 42


@needs_compiler
@pytest.mark.parametrize("compiler", ["#!/bin/sh\nexit 1\n", "no program at all"])
def test_a_compiler_that_fails_is_as_good_as_none(source, monkeypatch, compiler):
    (source.parent / "cc").write_text(compiler)
    (source.parent / "cc").chmod(0o755)
    monkeypatch.setenv("CC", str(source.parent / "cc"))
    assert build.compiler() == str(source.parent / "cc") and build.library(source, ("FACTOR", 2)) is None


@pytest.mark.parametrize("absent", ["no compiler", "switched off"])
def test_without_a_compiler_torch_computes_the_same(monkeypatch, absent):
    if absent == "no compiler":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    else:
        monkeypatch.setenv("ETAREC_COMPILED", "no")
    layer, x = TTTLayer(64, 4, "mlp", 8, inner_rate=1.0, rope_base=1000.0), torch.randn(2, 9, 64)
    ours = layer(x)
    layer.form = dual
    assert build.kind() == inner_loop_c.kernels() == "torch" and torch.equal(ours, layer(x))
    told = pytest.warns(UserWarning, match="no C compiler") if absent == "no compiler" else nullcontext()
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    with told:
        assert inner_loop_c._triton_for(on_gpu, layer.decay_offset, layer._fast_model()[0]) is None
    scores = torch.randn(3, 500)
    assert torch.equal(largest.top(scores, 7)[1], scores.topk(7).indices)
    assert torch.equal(softmax.softmax(scores)[0], scores.softmax(1))


@needs_compiler
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_sources_compile_without_a_warning(tmp_path, source):
    """-Wno-psabi: how vectors are passed between files; nothing here is."""
    flags = [
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wno-psabi",
        "-DF=16",
        "-DG=64",
        "-DM=8",
        "-DD=16",
        "-DH=2",
        "-DW=32",
    ]
    command = [build.compiler(), *flags, "-c", str(source), "-o", str(tmp_path / "o")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_sources_are_part_of_what_a_search_depends_on():
    """A resume, a cluster's nodes and what is cached beside a checkpoint ask whether the code is the same."""
    from search.provenance import sources

    assert {f"etarec/kernels/{path.name}" for path in SOURCES} <= set(sources())
