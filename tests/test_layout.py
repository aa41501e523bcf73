"""Each module has a test file of its own name, at the same place below `tests`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
READERS = "tests/etarec/readers"
TESTED_ELSEWHERE = {
    # Triton compiles these kernels, so Python calls them through inner_loop_triton.py alone.
    "etarec/kernels/inner_loop_triton_kernels.py": "tests/etarec/kernels/test_inner_loop_triton.py",
    # The steps of reading one log are tested on whole logs.
    **{f"etarec/readers/{step}.py": f"{READERS}/test_round_trip.py" for step in ("columnar", "lines", "text")},
    **{f"etarec/readers/{step}.py": f"{READERS}/test_readers.py" for step in ("columns", "faults", "log", "place")},
    "etarec/readers/preview.py": "tests/etarec/test_describe.py",
    "search/track/pyfunc_model.py": "tests/search/track/test_model.py",  # MLflow runs it as a script
}


def test_each_module_has_its_test_file() -> None:
    modules = [file.relative_to(ROOT) for package in ("etarec", "search") for file in (ROOT / package).rglob("*.py")]
    without = {
        str(module)
        for module in modules
        if not module.stem.startswith("__") and not (ROOT / "tests" / module.parent / f"test_{module.name}").exists()
    }
    assert without == TESTED_ELSEWHERE.keys()
    assert all((ROOT / file).exists() for file in TESTED_ELSEWHERE.values())
