"""The answer of a search by its files: one advice for the page, the terminal and chosen.yaml, and its next command."""

import shlex
from pathlib import Path

import pytest
from made_up_search import made_up_files, write

from search.report import render
from search.report.answer import COMMAND_WIDTH, Answer
from search.report.files import load
from search.selection.advice import Advice, Verdict

FOLDER = Path("runs/my search")


def answer_of(tmp_path: Path, **spec: object) -> Answer:
    files = made_up_files()
    files["spec.yaml"] |= spec
    return Answer(load(write(tmp_path / "run", files)))


def with_verdict(tmp_path: Path, verdict: Verdict, **spec: object) -> Answer:
    answer = answer_of(tmp_path, **spec)
    vars(answer)["advice"] = Advice(verdict, "title")
    return answer


def words(command: str) -> list[str]:
    return shlex.split(command.replace("\\\n", " "))


def test_front_and_baselines_are_judged_and_sorted(tmp_path):
    answer = answer_of(tmp_path)
    rates = [row["valid_filter_rate"] for row in answer.front]
    assert rates == sorted(rates) and len(rates) > 1
    assert {*answer.judged} == {row["trial_id"] for row in (*answer.front, *answer.fixed)}
    assert [row["trial_id"] for row in answer.along_front] == [f"random {rate}%" for rate in (10, 36, 62, 88)]
    assert answer.chosen is not None and answer.chosen["trial_id"] == answer.run.chosen["trial_id"]


@pytest.mark.parametrize(
    ("verdict", "purpose", "options"),
    [
        (Verdict.NOT_SETTLED, "search on", ["--out", str(FOLDER), "--resume", "--trials", "64"]),
        (Verdict.ADAPT_ON_ALL, "cheaper gate", ["--out", str(FOLDER), "--resume", "--trials", "64"]),
        (Verdict.SKIP_AT_RANDOM, "another training seed", ["--set", "train.seed=1"]),
        (Verdict.DO_NOT_ADAPT, "another training seed", ["--set", "train.seed=1"]),
    ],
)
def test_the_next_command_follows_the_verdict(tmp_path, verdict, purpose, options):
    answer = with_verdict(tmp_path, verdict)
    begin = ["python", "-m", "search.tune", "--space", str(FOLDER / "spec.yaml")]
    assert words(answer.command(FOLDER)) == [*begin, *options] and purpose in answer.purpose()


def test_a_choice_to_use_is_confirmed_with_its_settings(tmp_path):
    answer = with_verdict(tmp_path, Verdict.USE, train={"seed": 4})
    settings = [word for text in answer.run.chosen["set"] for word in ("--set", text)]
    assert words(answer.command(FOLDER))[5:] == ["--set", "train.seed=5", *settings]
    assert words(answer.fixed_command(FOLDER))[5:] == settings
    assert max(map(len, answer.command(FOLDER).splitlines())) <= COMMAND_WIDTH


def test_a_given_checkpoint_is_not_trained_again(tmp_path):
    answer = with_verdict(tmp_path, Verdict.DO_NOT_ADAPT, checkpoint="model.safetensors")
    assert answer.command(FOLDER) == answer.fixed_command(FOLDER) and "again" in answer.purpose()


def test_a_search_without_test_is_finished_first(tmp_path):
    files = made_up_files()
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name][[column for column in files[name] if "test" not in column]]
    answer = Answer(load(write(tmp_path / "run", files)))
    assert answer.advice.verdict is Verdict.NOT_SETTLED and answer.purpose() == "finish the search"
    assert words(answer.command(FOLDER))[-1] == "--resume"


def test_the_report_leads_with_the_advice(tmp_path):
    answer = answer_of(tmp_path)
    render.render(tmp_path / "run")
    page, markdown = ((tmp_path / "run" / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert f"<strong>{answer.advice.title}</strong>" in page
    assert markdown.split("\n\n")[1].startswith(f"**{answer.advice.title}**")


def test_files_written_before_there_were_costs_and_differences_to_none_are_read(tmp_path):
    files = made_up_files()
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        new = [column for column in files[name] if "vs_none" in column or "arithmetic" in column]
        files[name] = files[name].drop(columns=new)
    before = Answer(load(write(tmp_path / "run", files))).advice
    render.render(tmp_path / "run")
    assert "computing for learning" not in (tmp_path / "run" / "report.html").read_text()
    assert before.title == answer_of(tmp_path).advice.title
