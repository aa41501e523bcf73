"""The test split has one reader with one caller."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def mentions(name: str) -> set[str]:
    """Modules of the product in which `name` is used as a name, an attribute or a keyword argument's text."""
    found = set()
    for file in [*ROOT.glob("etarec/**/*.py"), *ROOT.glob("search/**/*.py")]:
        tree = ast.parse(file.read_text())
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        if name in names:
            found.add(file.name)
    return found


def serves_the_test_split(tree: ast.AST) -> bool:
    """Whether a call passes the text "test" to `measure` or `stream`."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [c for c in calls if getattr(c.func, "attr", getattr(c.func, "id", "")) in ("measure", "stream")]
    return any(isinstance(a, ast.Constant) and a.value == "test" for call in named for a in call.args)


def test_one_function_reads_the_test_split() -> None:
    files = [*ROOT.glob("etarec/**/*.py"), *ROOT.glob("search/**/*.py")]
    readers = [file.name for file in files if serves_the_test_split(ast.parse(file.read_text()))]
    assert readers == ["retest.py"]


def test_it_has_one_caller() -> None:
    assert mentions("measure_on_test") == {"measuring.py"}
    caller = (ROOT / "search/running/measuring.py").read_text()
    assert caller.count("measure_on_test") == 1
