"""The code of docs/own-model.md as a package of the user's, outside this project."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs/own-model.md").read_text()
PACKAGE = "mypackage"
MODEL, GATE = f"{PACKAGE}.models:Conv4Rec", f"{PACKAGE}.gates:Margin"


def blocks(language: str) -> list[str]:
    """The page's blocks of code in a language, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.S)


def write_package(folder: Path) -> Path:
    """Write the page's package into `folder` and return the package's folder."""
    package = folder / PACKAGE
    package.mkdir()
    model, _, _, gate = blocks("python")
    for name, code in {"__init__": "", "models": model, "gates": gate}.items():
        (package / f"{name}.py").write_text(code)
    return package
