"""Each `takes` at the edges of its row in the table of etarec/kernels/__init__.py."""

import inspect
import shutil
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from etarec import kernels
from etarec.kernels import build, inner_loop_c, inner_loop_triton, reductions, scores, tokenwise
from etarec.kernels.inner_loop_dual import FastLayer

FOLDER = Path(kernels.__file__).parent
FLOAT, DOUBLE, HALF = torch.float32, torch.float64, torch.float16

pytestmark = [
    pytest.mark.usefixtures("fresh_caches"),
    pytest.mark.skipif(build.compiler() is None, reason="needs a C compiler"),
]


def inner_loop(
    module: Any, F: int = 16, G: int = 64, M: int = 8, layers: int = 2, device: str = "cpu", dtype: torch.dtype = FLOAT
) -> bool:
    fast = [
        FastLayer(torch.empty(1, F, G), torch.empty(1, 1, G)),
        FastLayer(torch.empty(1, G, F), torch.empty(1, 1, F)),
    ]
    x = SimpleNamespace(device=torch.device(device), dtype=dtype)
    return module.takes(x, torch.empty(M), fast[:layers])


def tokenwise_part(
    D: int = 64, H: int = 4, W: int = 256, M: int = 8, device: str = "cpu", dtype: torch.dtype = FLOAT
) -> bool:
    return tokenwise.takes(torch.empty(1, D, device=device, dtype=dtype), tokenwise.Sizes(D, H, W, M))


def all_items(
    D: int = 16, V: int = 80, K: int = 10, layout: str = "rows", device: str = "cpu", dtype: torch.dtype = FLOAT
) -> bool:
    vectors = torch.empty(V, D, device=device, dtype=dtype)
    return scores.takes(vectors[:1], vectors if layout == "rows" else vectors.T.contiguous().T, K)


def block(V: int = 80, K: int = 10, layout: str = "rows", device: str = "cpu", dtype: torch.dtype = FLOAT) -> bool:
    given = torch.empty(3, V, device=device, dtype=dtype)
    return reductions.takes(given if layout == "rows" else given.T.contiguous().T, K)


TAKES: dict[str, Callable[..., bool]] = {
    "inner_loop_c.py": lambda **options: inner_loop(inner_loop_c, **options),
    "inner_loop_triton.py": lambda **options: inner_loop(inner_loop_triton, **{"device": "cuda"} | options),
    "tokenwise.py": tokenwise_part,
    "scores.py": all_items,
    "reductions.py": block,
}
ELSEWHERE = [{"device": "meta"}, {"dtype": DOUBLE}, {"dtype": HALF}, {"compiler": False}, {"forbidden": True}]
TAKEN: dict[str, list[dict[str, Any]]] = {  # sizes that other tests compile anyway
    "inner_loop_c.py": [{}, {"F": 8, "G": 32}, {"F": 24, "G": 96}, {"F": 32, "G": 128, "M": 16}, {"threads": 64}],
    "inner_loop_triton.py": [{}, {"F": 64}, {"F": 32, "G": 32}, {"M": 1}, {"M": 5}, {"M": 16}, {"threads": 64}],
    "tokenwise.py": [{}, {"D": 16, "H": 1, "W": 16}, {"D": 128, "W": 512}],
    "scores.py": [{}, {"D": 64}, {"K": 0, "V": 1}, {"V": 2**15}],
    "reductions.py": [{}, {"K": 0, "V": 1}, {"V": 2**16}, {"threads": 3}],
}
LEFT: dict[str, list[dict[str, Any]]] = {
    "inner_loop_c.py": [{"F": 4}, {"F": 20}, {"G": 60}, {"M": 4}, {"M": 9}, {"layers": 1}, {"device": "cuda"}],
    "inner_loop_triton.py": [
        *({"F": 8}, {"F": 24}, {"G": 128}, {"G": 48}, {"F": 64, "G": 32}, {"M": 17}, {"layers": 1}, {"device": "cpu"}),
    ],
    "tokenwise.py": [{"D": 144}, {"D": 24}, {"W": 528}, {"W": 200}, {"threads": 2}],
    "scores.py": [{"D": 8}, {"D": 24}, {"V": 79}, {"V": 2**15 + 1}, {"layout": "columns"}, {"threads": 2}],
    "reductions.py": [{"V": 79}, {"layout": "columns"}, {"threads": 4}],
}
CASES = [(form, options, True) for form, cases in TAKEN.items() for options in cases]
CASES += [(form, options, False) for form, cases in LEFT.items() for options in [*cases, *ELSEWHERE]]


def asked(form: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> bool:
    options = dict(options)
    threads, compiler = options.pop("threads", 1), options.pop("compiler", True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(inner_loop_triton, "try_out", lambda *sizes: None)
    if options.pop("forbidden", False):
        monkeypatch.setenv("ETAREC_COMPILED", "no")
    if not compiler:
        monkeypatch.setattr(shutil, "which", lambda name: None)
    return TAKES[form](**options)


@pytest.mark.parametrize(("form", "options", "taken"), CASES, ids=lambda value: str(value))
def test_a_form_takes_what_its_row_says_and_no_more(form, options, taken, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # see the next test
        assert asked(form, options, monkeypatch) == taken


@pytest.mark.parametrize("options", [{"F": 24}, {"M": 17}, {"compiler": False}], ids=str)
def test_a_gpu_that_is_left_to_torch_causes_a_warning(options, monkeypatch):
    with pytest.warns(UserWarning, match="the inner loop runs in torch"):
        assert not asked("inner_loop_triton.py", options, monkeypatch)


@pytest.mark.parametrize("options", [{"device": "cpu"}, {"layers": 1}, {"dtype": DOUBLE}, {"forbidden": True}], ids=str)
def test_work_that_no_kernel_is_for_causes_none(options, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not asked("inner_loop_triton.py", options, monkeypatch)


def rows() -> Iterator[list[str]]:
    """Operation, form, conditions and test of each row of the table; a row without a form continues the one above."""
    found: list[list[str]] = []
    for line in inspect.cleandoc(kernels.__doc__ or "").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("| ") else []
        if cells and cells[1]:
            found.append(cells)
        elif cells:
            found[-1] = [" ".join(pair).strip() for pair in zip(found[-1], cells, strict=True)]
    yield from found[1:]


def test_every_module_with_a_takes_has_a_row_and_only_one_takes():
    names = sorted({path.stem for path in FOLDER.glob("[!_]*.py")} - {"inner_loop_triton_kernels"})  # needs Triton
    modules = {f"{name}.py": import_module(f"etarec.kernels.{name}") for name in names}
    own = {
        name: [function for function, _ in inspect.getmembers(module, inspect.isfunction) if "takes" in function]
        for name, module in modules.items()
    }
    assert {name for name, functions in own.items() if functions} == set(TAKES) == {*TAKEN} == {*LEFT}
    assert all(functions == ["takes"] for functions in own.values() if functions)
    forms = [form for _, form, _, _ in rows()]
    assert forms == ["ttt.primal", "inner_loop_dual.py", *TAKES]


def test_the_rows_name_their_limits_and_existing_tests():
    text = {form: conditions for _, form, conditions, _ in rows()}
    limits = {
        "inner_loop_c.py": [f"multiples of {inner_loop_c.LANES}"],
        "inner_loop_triton.py": [
            f"in {inner_loop_triton.MIN_TILE}..{inner_loop_triton.MAX_WIDTH}",
            f"M <= {inner_loop_triton.MAX_MINI_BATCH}",
        ],
        "tokenwise.py": [
            f"D <= {tokenwise.MAX_WIDTH} and W <= {tokenwise.MAX_MLP_WIDTH}",
            f"both multiples of {tokenwise.PANEL}",
        ],
        "scores.py": [f"D a multiple of {scores.PANEL}", f"V <= {scores.MAX_ITEMS:,}", f"{reductions.GROUP} K <= V"],
        "reductions.py": [f"at most {reductions.MAX_THREADS} threads", f"{reductions.GROUP} K <= V"],
    }
    for form, phrases in limits.items():
        assert all(phrase in text[form] for phrase in [*phrases, "float32", "a C compiler"]), form
    for _, _, _, test in rows():
        assert any(Path(__file__).parents[1].rglob(test)), test
