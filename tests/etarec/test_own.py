"""Classes of the user's own: their import, options and the digest of their code."""

import pickle
import sys
from pathlib import Path

import pytest

from etarec import own
from etarec.own import UnusableError
from tests.own_package import MODEL


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        (
            "nowhere.models:Mine",
            r"given nowhere.models:Mine, but nowhere.models cannot be imported \(ModuleNotFound.*PYTHONPATH",
        ),
        ("mypackage.broken:Mine", r"mypackage.broken cannot be imported \(ZeroDivisionError: division by zero\)"),
        ("mypackage.models:Other", "mypackage.models has no class Other; expected package.module:Class"),
        ("mypackage.models:torch", "torch is no class"),
        ("__main__:Mine", "expected a class in a module that other processes can import"),
    ],
)
def test_a_path_that_names_no_class_is_told(own_package: Path, path: str, problem: str) -> None:
    (own_package / "broken.py").write_text("1 / 0\n")
    with pytest.raises(UnusableError, match=rf"^model\.class: .*{problem}"):
        own.load(path, ("model", "class"))


def test_options_become_an_instance_of_the_class_s_dataclass(own_package: Path) -> None:
    cls = own.load(MODEL, ())
    assert vars(own.options_of(cls, {"width": 8}, ())) == {"width": 8, "layers": 2}
    assert vars(own.options_of(object, {"any": [1, 2]}, ())) == {"any": [1, 2]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"widht": 8}, r"model.options.widht: unknown key; did you mean width\? \(known here: width, layers\)"),
        ({"width": "8"}, r'model.options.width: given "8", expected an integer'),
        ({"width": 8.5}, "model.options.width: given 8.5, expected an integer"),
    ],
)
def test_options_that_are_not_legal_are_named(own_package: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(UnusableError, match=f"^{message}$"):
        own.options_of(own.load(MODEL, ()), given, ("model", "options"))


def test_an_option_without_a_default_is_asked_for(own_package: Path) -> None:
    (own_package / "asking.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Needs:\n    width: int\nclass Mine:\n    Options = Needs\n"
    )
    with pytest.raises(UnusableError, match=r"^model.options.width: missing, expected an integer$"):
        own.options_of(own.load("mypackage.asking:Mine", ()), {}, ("model", "options"))


def test_every_source_of_the_package_counts(own_package: Path) -> None:
    before = own.digest(MODEL)
    assert set(own.sources(MODEL)) == {f"mypackage/{name}.py" for name in ("__init__", "gates", "models")}
    (own_package / "notes.txt").write_text("no source")
    assert own.digest(MODEL) == before
    (own_package / "helper.py").write_text("")
    assert own.digest(MODEL) != before


def test_a_single_module_is_a_package_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lonely.py").write_text("class Mine: ...\n")
    assert own.load("lonely:Mine", ()).__name__ == "Mine" and own.package("lonely:Mine") == tmp_path / "lonely.py"
    assert list(own.sources("lonely:Mine")) == ["lonely.py"]
    del sys.modules["lonely"]


def test_code_that_changed_after_its_import_is_refused(own_package: Path) -> None:
    """Workers would import the new code beside this process's old one."""
    own.load(MODEL, ("model", "class"))
    with (own_package / "models.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(UnusableError, match="has changed since this process imported it; expected a restart"):
        own.load(MODEL, ("model", "class"))


def test_the_error_survives_the_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(UnusableError(("model", "class"), "given x")))
    assert str(error) == "model.class: given x" and error.place == ("model", "class")
