"""The line of a phase: redrawn in 80 columns on a terminal, and never silent for long elsewhere."""

import io
import re
import time

import pytest
from rich.console import Console as Terminal

from etarec import progress
from etarec.progress import Phase, Phases

NOTE = "area 100%, HR@10 0.1234 at 56% skipped, and more"


def recorded(*, terminal: bool) -> tuple[Phases, io.StringIO]:
    written = io.StringIO()
    return Phases(Terminal(file=written, force_terminal=terminal, width=80, highlight=False, soft_wrap=True)), written


def test_a_terminal_has_one_line_that_fits_and_ends_with_the_phase() -> None:
    phases, written = recorded(terminal=True)
    with phases.phase("baselines and more", 1_000) as phase:
        phase.expect(500)
        phase.advance(1_234, NOTE)
        time.sleep(2.5 / progress.REDRAWS)
    phases.line("done")
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", written.getvalue()))
    drawn = [line for line in lines if "1234/1500" in line]
    assert drawn and "area 100%" in drawn[-1] and "skipped…" not in lines[-2]
    assert all(len(line) <= 80 for line in lines)
    assert lines[-2] == "done"


def test_elsewhere_a_silent_phase_tells_its_state_and_a_talkative_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LONGEST_SILENCE", 0.2)
    phases, written = recorded(terminal=False)
    with phases.phase("test", 25) as phase:
        for number in range(6):
            phases.line(f"result {number}")
            time.sleep(0.05)
        assert "test" not in written.getvalue()
        phase.advance(12, "all well")
        time.sleep(0.5)
    told = written.getvalue().count("  test 12/25, 0 s, all well\n") + written.getvalue().count(
        "  test 12/25, 1 s, all well\n"
    )
    assert 1 <= told <= 2


def test_a_phase_without_a_number_of_steps_has_no_count() -> None:
    phase = Phase("loading")
    assert re.fullmatch(r"loading, \d+ s", str(phase))
    phase.expect(2)
    phase.advance(note="half", share=0.5)
    phase.advance()
    assert str(phase).startswith("loading 2/2, ") and str(phase).endswith("half") and phase.facts == {"share": 0.5}
