"""Each module has a test file of its own name, at the same place below `tests`."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
# Triton compiles these kernels, so Python calls them through inner_loop_triton.py alone.
TESTED_ELSEWHERE = {"etarec/kernels/inner_loop_triton_kernels.py": "tests/etarec/kernels/test_inner_loop_triton.py"}


def test_each_module_has_its_test_file() -> None:
    modules = [file.relative_to(ROOT) for package in ("etarec", "search") for file in (ROOT / package).rglob("*.py")]
    without = {
        str(module)
        for module in modules
        if not module.stem.startswith("__") and not (ROOT / "tests" / module.parent / f"test_{module.name}").exists()
    }
    assert without == TESTED_ELSEWHERE.keys()
    assert all((ROOT / file).exists() for file in TESTED_ELSEWHERE.values())
