"""The folder of a stranger's search: its files are shown, and nothing of it runs."""

import csv
import sys
from pathlib import Path

import pytest
import yaml
from made_up_searches import folder
from made_up_store import Store

from etarec.config import UserError
from search.compare.render import render as compare
from search.records.records import Records
from search.report.render import render
from search.track.__main__ import track

pytestmark = pytest.mark.slow  # every test makes a page
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose spec names classes that lie beside it, where imports would find them."""
    place = folder(tmp_path / "=cmd()")
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    spec = yaml.safe_load((place / "spec.yaml").read_text())
    spec["model"] = {"class": "evil:Mine", "options": {}}
    spec["adapt"]["gate"] = "evil:Mine"
    spec["name"] = EVIL
    (place / "spec.yaml").write_text(yaml.safe_dump(spec))
    return place


def test_report_and_comparison_import_nothing_that_the_spec_names(strange: Path, tmp_path: Path) -> None:
    render(strange)
    compare([strange], tmp_path / "out")
    assert "evil" not in sys.modules and not (tmp_path / "ran").exists()


def test_tracking_imports_nothing_that_the_spec_names(strange: Path, tmp_path: Path, store: Store) -> None:
    for name in ("pareto.csv", "baselines.csv", "chosen.yaml"):  # of trials that the journal below does not have
        (strange / name).unlink()
    Records(strange).begin({})
    track(strange)
    assert "evil" not in sys.modules and not (tmp_path / "ran").exists()


def test_a_tag_of_python_in_its_files_is_no_object(strange: Path) -> None:
    (strange / "chosen.yaml").write_text("trial_id: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(UserError, match=r"chosen.yaml: cannot be parsed \(could not determine a constructor"):
        render(strange)


def test_its_name_is_text_in_the_page_and_no_formula_in_the_table(strange: Path, tmp_path: Path) -> None:
    compare([strange], tmp_path / "out")
    render(strange)
    for page in (tmp_path / "out" / "compare.html", strange / "report.html"):
        assert EVIL not in page.read_text(encoding="utf-8")
    with (tmp_path / "out" / "compare.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["search"] == "'=cmd()"
