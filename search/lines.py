"""The texts of a search in a terminal of 80 columns: a trial's line, the best result so far, and the final table."""

import textwrap
from collections.abc import Mapping

from rich.table import Table

from etarec.metrics import COST, label
from search import numbers
from search.records.records import Records
from search.records.states import Ending, State
from search.records.trial import Trial, frequent_reason
from search.report.answer import Answer
from search.selection import front as selection
from search.selection.chance import gate_rate
from search.selection.view import Row, View
from search.spec import Spec

WIDTH, CONFIGURATION_WIDTH = 80, 16  # columns


def best_so_far(spec: Spec, records: Records) -> tuple[str, dict[str, object]]:
    """The front's size and the point that would be chosen now, in words and as values by name.

    The size is the share of the area between no adaptation and adapting on everything, or the hypervolume where that is
    unknown. Both are empty before the first trial has finished.
    """
    found = selection.without_baselines(spec, records.in_state(State.FINISHED), list(records.anchors.values()))
    if found.chosen is None:
        return "", {}
    quality, skipped = found.chosen.valid[spec.search.quality], gate_rate(found.chosen.valid)
    word = "area" if len(spec.search.objectives) == 2 else "volume"
    size = f"volume {found.hypervolume:.3f}" if found.area_share is None else f"{word} {found.area_share:.0%}"
    best: dict[str, object] = {"trial_id": found.chosen.name, spec.search.quality: quality, "skipped": skipped}
    facts: dict[str, object] = {"area_share": found.area_share, "hypervolume": found.hypervolume, "best": best}
    return f"{size}, best {quality:.4f} skips {skipped:.0%}", facts


def all_failed(records: Records, ending: Ending) -> str:
    failed = records.in_state(State.FAILED)
    reason, count = frequent_reason(trial.error for trial in failed)
    text = f"every trial failed, {count} of {len(failed)} with: {reason}; "
    if ending is Ending.FAILING:
        return f"{text}the search ended early ({ending}), and --resume measures the trials that it has not begun"
    return f"{text}--resume does not repeat failed trials, so start a new search when the cause is fixed"


def trial_lines(spec: Spec, trial: Trial) -> list[str]:
    """A trial's result in one line where 80 columns suffice; no word is broken."""
    configuration = numbers.configuration(trial.parameters)
    if trial.state is not State.FINISHED:
        text = f"{trial.trial_id}  {trial.state}  {configuration}  {trial.error}"
    else:
        quality, metrics = spec.search.quality, trial.metrics
        text = (
            f"{trial.trial_id}  {label(quality)} {metrics[quality]:.4f}  skipped {gate_rate(metrics):5.1%}  "
            f"compute {metrics['arithmetic']:3.0%}  {_cost(metrics)}{metrics['seconds']:4.1f} s  {configuration}"
        )
    shape = textwrap.TextWrapper(WIDTH, initial_indent="  ", subsequent_indent=" " * 14)
    shape.break_long_words = shape.break_on_hyphens = False
    return shape.wrap(text)


def _cost(metrics: Mapping[str, float]) -> str:
    return f"cost {metrics[COST]:3.0%}  " if COST in metrics else ""


def result_table(answer: Answer) -> Table:
    """The front and the baselines in 80 columns. Random skipping along the front stays out."""
    table = Table(
        title="Pareto front and baselines", title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    rows = [row for row in (*answer.front, *answer.fixed) if row not in answer.along_front]
    texts = {str(row["trial_id"]): _configuration(answer, row) for row in rows}
    shown = max(map(len, texts.values())) <= CONFIGURATION_WIDTH
    table.add_column("", no_wrap=True)
    if shown:
        table.add_column("\nconfiguration", no_wrap=True)
    quality = answer.view.label
    for name in ("valid\nskipped", f"valid\n{quality}", "test\nskipped", f"test\n{quality}", "test\ncompute"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("\non test", no_wrap=True)
    for row in rows:
        chosen = answer.chosen is not None and row["trial_id"] == answer.chosen["trial_id"]
        table.add_row(*_cells(answer, row, [texts[str(row["trial_id"])]] * shown), style="bold" if chosen else None)
        if row is answer.front[-1]:
            table.add_section()
    return table


def _cells(answer: Answer, row: Row, configuration: list[str]) -> list[str]:
    name, valid = str(row["trial_id"]), View("valid", answer.view.metric)
    mark = " *" if answer.chosen is not None and name == answer.chosen["trial_id"] else ""
    cells = [name + mark, *configuration, f"{valid.skipped(row):.1%}", numbers.score(valid.quality(row))]
    tested = View("test", answer.view.metric)
    if not tested.measured(row):
        return [*cells, "", "", "", ""]
    computing = tested.computing(row)
    cells += [f"{tested.skipped(row):.1%}", numbers.score(tested.quality(row))]
    return [*cells, "" if computing is None else f"{computing:.0%}", str(answer.judged[name].judgement)]


def _configuration(answer: Answer, row: Row) -> str:
    """The searched parameters; most baselines do not depend on them, so their cells stay empty."""
    if row["trial_id"] in answer.baselines:
        return ""
    return numbers.configuration({name: row[name] for name in answer.run.parameters})


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
