"""C libraries: compiled once, kept where possible, and replaced by torch without a compiler."""

import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from etarec.kernels import build, inner_loop_triton, reductions
from etarec.kernels.inner_loop import kernels
from etarec.kernels.inner_loop_dual import dual
from etarec.ttt import TTTLayer

SOURCE = "int twice(int n) { return FACTOR * n; }\n"
SOURCES = sorted(Path(build.__file__).parent.glob("*.c"))
needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler")

pytestmark = pytest.mark.usefixtures("fresh_caches")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "twice.c").write_text(SOURCE)
    return tmp_path / "twice.c"


def kept(folder: Path) -> list[Path]:
    return list((folder / "__pycache__").iterdir())


@needs_compiler
def test_a_library_is_compiled_once_and_again_for_another_source_or_size(source):
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
def test_a_library_is_compiled_again_for_another_header(source):
    source.write_text('#include "factor.h"\n' + SOURCE)
    for factor in (2, 3):
        source.with_name("factor.h").write_text(f"#define FACTOR {factor}\n")
        build.library.cache_clear()
        assert build.library(source).twice(21) == factor * 21


@needs_compiler
def test_a_process_compiles_its_own_where_none_can_be_kept(source):
    (source.parent / "__pycache__").write_text("a file, where a folder would have to be")
    assert build.library(source, ("FACTOR", 2)).twice(21) == 42


@needs_compiler
@pytest.mark.parametrize("compiler", ["#!/bin/sh\nexit 1\n", "no program at all"])
def test_a_compiler_that_fails_counts_as_none(source, monkeypatch, compiler):
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
    assert build.kind() == kernels() == "torch" and torch.equal(ours, layer(x))
    told = pytest.warns(UserWarning, match="no C compiler") if absent == "no compiler" else nullcontext()
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    with told:
        assert not inner_loop_triton.takes(on_gpu, layer.decay_offset, layer._fast_model()[0])
    scores = torch.randn(3, 500)
    assert torch.equal(reductions.top(scores, 7)[1], scores.topk(7).indices)
    assert torch.equal(reductions.softmax(scores)[0], scores.softmax(1))


@needs_compiler
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.name)
def test_the_sources_compile_without_a_warning(tmp_path, source):
    """-Wno-psabi: the ABI of vector arguments does not matter, because no file passes any to another."""
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
    """A resume, the nodes of a cluster and cached passes check that the code is the same."""
    from search.records.provenance import sources

    assert {f"etarec/kernels/{path.name}" for path in SOURCES} <= set(sources())
