import errno
import os
import re
import struct
import subprocess
import sys
from html import unescape

import numpy as np
import pandas as pd
import pytest
from made_up_search import write
from scipy.stats import spearmanr

from search import baselines
from search.numbers import seconds
from search.report import findings, pareto_plot, render
from search.report.__main__ import main

OUTPUTS = ("report.html", "report.md", "pareto.png", "pareto.svg")


def rendered(directory, files):
    """(the page without plotly's script, with entities as text; the Markdown), without images, which take longest"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto_plot, "pareto_images", lambda frames, folder: None)
        render.render(write(directory, files))
    page = (directory / "report.html").read_text(encoding="utf-8")
    script, rest = page.split("<script>", 1)
    assert "https://cdn" not in page.split("</script>", 1)[1]
    return unescape(script + rest.split("</script>", 1)[1]), (directory / "report.md").read_text(encoding="utf-8")


def untested(files):
    """The same search, cut off before the test split was read."""
    for name in ("pareto.csv", "baselines.csv"):
        tested = [column for column in files[name] if "test" in column]
        files[name] = files[name].assign(**dict.fromkeys(tested, np.nan))
    files["provenance.json"]["search"]["interrupted"] = True
    return files


def baseline(files, name, **values):
    """Overwrite some values of one baseline."""
    frame = files["baselines.csv"]
    frame.loc[frame["trial_id"] == name, list(values)] = list(values.values())
    return files


def chosen_row(files):
    front = files["pareto.csv"]
    return front[front["trial_id"] == files["chosen.yaml"]["trial_id"]].iloc[0]


def test_all_outputs_are_made_and_the_same_again(directory, files):
    render.render(write(directory, files))
    image = (directory / "pareto.svg").read_bytes()
    render.render(directory)
    assert (directory / "pareto.svg").read_bytes() == image and b"HR@10</text>" in image
    assert (directory / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert struct.unpack(">II", (directory / "pareto.png").read_bytes()[16:24]) == (1600, 1000)


def test_answer_states_what_the_files_say(directory, files):
    row, baselines = chosen_row(files), files["baselines.csv"].set_index("trial_id")
    parts = [f"test_{name}_seconds" for name in ("forward", "gate", "adapt")]
    mine, everything = (1e6 * one[parts].sum() / 98759 for one in (row, baselines.loc["all"]))
    expected = [
        "Adapting on every sample adds 12.5% (95%: ",
        f"Serving 1,000 samples takes {seconds(mine)} ms with {row.trial_id} and {seconds(everything)} ms with",
        f"adapting on every sample: {100 * (1 - mine / everything):.0f}% less (",
        "adapting adds 0.0099 (95% interval +0.0080 to +0.0118, p < .001)",
        "keeps 95% of that gain",
    ]
    page, markdown = rendered(directory, files)
    assert f"skipped on test by {row.trial_id}" in page
    for text in (page, unescape(markdown)):
        assert [part for part in expected if part not in text] == []


def test_every_front_point_and_baseline_is_shown(directory, files):
    for text in rendered(directory, files):
        for row in files["pareto.csv"].itertuples():
            for number in (row.valid_hr_at_10, row.test_hr_at_10, row.test_hr_at_10_low, row.test_ndcg_at_10):
                assert f"{number:.4f}" in text
        for row in files["baselines.csv"].itertuples():
            if not row.trial_id.startswith("random ") or "<html" in text:
                assert row.trial_id in text and f"{row.test_hr_at_10:.4f}" in text


def test_derived_numbers_are_computed_from_the_files(directory, files):
    trials = files["trials.csv"]
    finished = trials[trials["state"] == "FINISHED"]
    rank_correlation = spearmanr(finished["entropy_quantile"], finished["filter_rate"]).statistic
    for text in rendered(directory, files):
        assert f"{rank_correlation:+.2f}".replace("-", "\N{MINUS SIGN}") in text
        assert f"adaptation {seconds(finished['adapt_seconds'].sum())} s." in text


@pytest.mark.parametrize(
    ("search", "said"),
    [
        (
            {"area_share": 0.714, "gain_over_dice": 0.123},
            "covers 71% of the area between no adaptation and",
        ),
        ({"area_share": 0.714, "gain_over_dice": 0.123}, "The trials alone cover 12% more of it than random skipping."),
        ({"area_share": None, "gain_over_dice": -0.2}, "The trials alone cover 20% less of it than random skipping."),
    ],
)
def test_the_front_s_areas_are_those_of_the_provenance(directory, files, search, said):
    files["provenance.json"]["search"] = {**(files["provenance.json"].get("search") or {}), **search}
    for text in rendered(directory, files):
        assert said in text


def test_corrected_p_values_are_the_files(directory, files):
    corrected = {
        "delta_hr_at_10": 0.12,
        "delta_ndcg_at_10": 0.234,
        "vs_random_hr_at_10": 0.0052,
        "vs_none_hr_at_10": 0.36,
    }
    for name, value in corrected.items():
        files["pareto.csv"][f"test_{name}_p_holm"] = value
    page, markdown = rendered(directory, files)
    for text in ("p = .12", "p = .23", "p < .01", "p = .36"):
        assert f"<small>{text}</small>" in page and f"; {text})" in markdown
    assert "Holm's correction of p covers all comparisons in pareto.csv" in page


def test_differences_in_ndcg_and_to_chance_are_shown(directory, files):
    row = files["pareto.csv"].iloc[0]
    for text in rendered(directory, files):
        for name in ("delta_hr_at_10", "delta_ndcg_at_10", "vs_random_hr_at_10", "vs_none_hr_at_10"):
            for end in ("", "_low", "_high"):
                assert findings.signed(row[f"test_{name}{end}"]) in text


def test_a_search_without_gates_at_random_along_its_front(directory, files):
    files["pareto.csv"] = files["pareto.csv"][[name for name in files["pareto.csv"] if "vs_random" not in name]]
    files["baselines.csv"] = files["baselines.csv"][~files["baselines.csv"]["trial_id"].str.startswith("random ")]
    page, markdown = rendered(directory, files)
    for text in (page, markdown):
        assert "Δ to random" not in text and "to random |" not in text and "Compared with random skipping" not in text
        assert "random N%" not in text
    assert "random skipping, test" not in page


@pytest.mark.parametrize(
    ("p_holm", "sentence"),
    [
        (0.01, "{ahead} clearly higher and {behind} clearly lower (p < .05 after Holm's correction)"),
        (0.2, "none clearly higher and none clearly lower (p < .05 after Holm's correction)"),
    ],
)
def test_every_front_point_is_compared_with_random_skipping(directory, files, p_holm, sentence):
    front = files["pareto.csv"]
    signs = np.arange(len(front)) % 3 > 0
    front["test_vs_random_hr_at_10"] = np.where(signs, 0.001, -0.001)
    front["test_vs_random_hr_at_10_p_holm"] = p_holm
    ahead = int(signs.sum())
    expected = sentence.format(ahead=ahead, behind=len(front) - ahead)
    for text in map(unescape, rendered(directory, files)):
        assert f"random skipping of as many passes, {ahead} of {len(front)} front points score higher; " in text
        assert expected in text


def test_random_skipping_along_the_front_is_a_curve_in_the_plot(directory, files):
    page = rendered(directory, files)[0]
    assert page.count('"name":"random skipping, test"') == page.count('"name":"random skipping, validation"') == 1
    assert '"text":"random 36%"' not in page and "random 36%" in page
    assert "random 36%</td><td>" not in page.split("Where the time went")[1]


def test_counts_and_reasons(directory, files):
    page, markdown = rendered(directory, files)
    assert "32 requested, 29 finished, 2 failed, 1 killed." in markdown
    assert "| FAILED | RuntimeError: loss is \\| not &lt;finite> | t0009, t0017 |" in markdown
    assert "RuntimeError: loss is | not <finite>" in page
    assert "The files disagree" not in page


def test_provenance_and_command(directory, files):
    for text in rendered(directory, files):
        for part in (
            "python -m search.tune --space configs/amazon_video_games.yaml --trials 32 --out runs/video-games",
            "commit 3f0c9e1b7a with uncommitted changes", "9b1d" * 16, "train 70,497, valid 38,221, test 98,759",
            "2 trials at a time, 1 thread each", "AMD EPYC 7B13, 2 cores, 15.6 GiB memory, no GPU", "ray 2.60.0",
        ):  # fmt: skip
            assert part in text


def test_markdown_tables_are_rectangular(directory, files):
    for tested in (True, False):
        markdown = rendered(directory, files if tested else untested(files))[1]
        blocks = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
        assert len(blocks) == 7
        for block in blocks:
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1, block


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({}, "Adapting pays"),
        ({"test_hr_at_10": 0.0894}, "Adapting gains nothing"),
        ({"test_hr_at_10": 0.0901, "test_delta_hr_at_10": 0.0007}, "Adapting gains nothing"),
        ({"test_hr_at_10": 0.0893, "test_delta_hr_at_10_high": 0.0002}, "Whether adapting pays is not settled"),
        ({"test_hr_at_10": 0.0893}, "Adapting pays, but not as the chosen configuration does it"),
    ],
)
def test_gain_of_adapting_is_told_honestly(directory, files, values, title):
    titles = {"Adapting pays", "Adapting gains nothing", "Whether adapting pays is not settled"}
    for text in rendered(directory, baseline(files, "none", **values)):
        assert title in text and {name for name in titles if name in text} == {title.partition(",")[0]}
        behind = values.get("test_hr_at_10") == 0.0893 or "gains nothing" in title
        assert ("The best of no adaptation, adapting on every sample and the front is " in text) == behind


def test_a_search_from_a_given_checkpoint_is_rendered(directory, files):
    """In spec.yaml `checkpoint` is a file's name, in provenance.json what is known of it."""
    files["spec.yaml"] |= {"checkpoint": "model.safetensors"}
    assert all(str(chosen_row(files).trial_id) in text for text in rendered(directory, files))


@pytest.mark.parametrize(
    ("values", "title"),
    [
        ({}, "The gate beats random skipping"),
        ({"test_hr_at_10": 0.0894}, "The gate does not beat random skipping"),
        ({"test_vs_chosen_hr_at_10_high": 0.001}, "The gate is ahead of random skipping, but not clearly"),
    ],
)
def test_gate_is_compared_with_random_skipping(directory, files, values, title):
    for text in rendered(directory, baseline(files, "random", **values)):
        assert title in text


def test_unmeasured_baselines_are_said_to_be_unknown(directory, files):
    files["baselines.csv"] = files["baselines.csv"].iloc[:0]
    for text in rendered(directory, files):
        assert "Unknown: the baselines 'none' and 'all' were not measured." in text
        assert "Unknown: the baseline 'random' was not measured." in text


def test_a_rehearsal_is_told(directory, files):
    said = "Validation is a rehearsal here: trials and baselines run on the 61,155 samples before test"
    assert not any("is a rehearsal" in text for text in rendered(directory, files))
    files["provenance.json"]["rehearsal"] = {"path": "r.safetensors", "samples": {"train": 47563, "valid": 61155}}
    for text in rendered(directory, files):
        assert said in text and "trained on the 47,563 before those. Test uses" in text and "r.safetensors" in text


def test_interrupted_search_shows_validation_and_says_so(directory, files):
    row = chosen_row(files)
    page, markdown = rendered(directory, untested(files))
    for text in (page, markdown):
        assert "The search was interrupted" in text
        assert "Not measured on test." in text
        assert "Not settled: the choice was not measured on test." in text
        assert f"{row.valid_hr_at_10:.4f}" in text and "--resume" in text
        assert "Holm" not in text
        assert not re.search(r"\bnan\b", text, flags=re.IGNORECASE)
    assert page.index("Not measured on test.") < page.index('class="tiles"')


@pytest.mark.parametrize("empty", ["header", "nothing"])
def test_search_without_a_finished_trial(directory, files, empty):
    lost = files["trials.csv"].loc[[9, 30]]
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].iloc[:0] if empty == "header" else pd.DataFrame()
    del files["chosen.yaml"]
    page, markdown = rendered(directory, files | {"trials.csv": lost})
    for text in (page, markdown):
        assert "No trial finished, so there is no front and nothing to recommend." in text
        assert "stopped by the user" in text
        assert "The files disagree: provenance.json counts 29 finished trials, trials.csv 0." in text
    render.render(directory)
    assert (directory / "pareto.png").exists()
    rendered(directory, files | {"trials.csv": pd.DataFrame()})


def test_a_search_whose_trials_all_ended_early_is_answered_by_its_baselines(directory, files):
    """The page says what to do, what it rests on, and the next command, though nothing is on the front."""
    files["trials.csv"] = files["trials.csv"].assign(state="PRUNED", error="none is better in both objectives")
    files["pareto.csv"] = files["pareto.csv"].iloc[:0]
    files["chosen.yaml"] = {"trial_id": None, "why": "No trial finished, so no trial is recommended."}
    count = len(files["trials.csv"])
    for text in rendered(directory, files):
        assert "Adapt on every sample." in text and "nothing to recommend" not in text
        assert f"Each of the {count} trials is beaten by a baseline on validation." in text
        assert "No trial is on the front" in text and "found in 4 checks" in text
        assert "--resume" in text and "To look for a cheaper gate with more trials" in text


def test_a_search_in_which_every_trial_failed_names_the_reason(directory, files):
    lost = files["trials.csv"].loc[[9, 9, 17]].assign(trial_id=["t0009", "t0010", "t0017"])
    lost["error"] = ["ValueError: seldom", "RuntimeError: often", "RuntimeError: often"]
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].iloc[:0]
    for text in rendered(directory, files | {"trials.csv": lost}):
        assert "Every trial failed, 2 of 3 with: RuntimeError: often; so there is no front" in text


def test_other_objectives_and_categories(directory, files):
    files["spec.yaml"]["search"]["objectives"] = ["ndcg_at_10", "filter_rate"]
    files["spec.yaml"]["space"]["admit"] = {"choices": ["confident", "uncertain"]}
    for name in ("trials.csv", "pareto.csv", "baselines.csv"):
        files[name]["admit"] = "confident"
        files[name].loc[1::2, "admit"] = "uncertain"
    page, markdown = rendered(directory, files)
    assert "## NDCG@10 against skipped passes" in markdown
    assert re.search(r"\| admit \| one of confident, uncertain \| \d+% .* \| – \| – \|", markdown)
    assert "plot-admit" in page


def test_part_of_the_filter_rate_without_a_column_is_zero(directory, files):
    for name in ("pareto.csv", "baselines.csv"):
        files[name]["valid_filtered_by_seen"] = 0.04
    assert (
        "4.0% of the validation samples and 0.0% of the test samples have nothing to learn"
        in rendered(directory, files)[1]
    )
    for text in rendered(directory, untested(files)):
        assert "4.0% of the validation samples have nothing to learn, because" in text


def test_the_note_on_seconds_names_the_baseline_that_serves_larger_batches(directory, files):
    page, markdown = rendered(directory, files)
    assert f"The baseline <em>{baselines.NONE}</em> serves" in page
    assert f"The baseline `{baselines.NONE}` serves" in markdown


def test_hostile_names_stay_text(directory, files):
    evil = "</script><img src=x onerror=alert(1)>"
    first = files["chosen.yaml"]["trial_id"]
    for name in ("trials.csv", "pareto.csv"):
        files[name]["trial_id"] = files[name]["trial_id"].replace(first, evil)
    files["chosen.yaml"]["trial_id"] = files["spec.yaml"]["name"] = evil
    render.render(write(directory, files))
    assert "<img src=x" not in (directory / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in (directory / "report.md").read_text(encoding="utf-8")


def test_page_loads_nothing_from_elsewhere(directory, files):
    render.render(write(directory, files))
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link\b", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        (errno.EACCES, 2, ": cannot write the report: Permission denied"),
        (errno.EROFS, 1, "report.md: Read-only file system; make it writable again"),
    ],
)
def test_a_report_that_cannot_be_written_ends_with_one_message(
    directory, files, monkeypatch, capsys, code, status, words
):
    def fail(path, content):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(pareto_plot, "pareto_images", lambda frames, folder: None)
    monkeypatch.setattr(render, "write_whole", fail)
    assert main([str(write(directory, files))]) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_command_line_renders_again(directory, files):
    render.render(write(directory, files))
    before = (directory / "report.md").read_bytes()
    for name in OUTPUTS:
        (directory / name).unlink()
    result = subprocess.run(
        [sys.executable, "-m", "search.report", str(directory)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert all(str(directory / name) in result.stdout for name in OUTPUTS)
    assert (directory / "report.md").read_bytes() == before
