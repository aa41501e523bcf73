"""Each check finds its problem, says what to do, and is silent where all is well."""

import pytest
from made_up_search import made_up_files, stream, write

from search.report.answer import Answer
from search.report.files import load
from search.report.health import CHECKS, problems


@pytest.fixture
def files():
    files = made_up_files()
    files["baselines.csv"]["test_vs_chosen_hr_at_10_high"] = -0.0001
    return files


def checked(tmp_path, files, name):
    return CHECKS[name](Answer(load(write(tmp_path / "run", files))))


def front_with(files, **values):
    files["pareto.csv"] = files["pareto.csv"].assign(**values)


def few(files):
    files["trials.csv"] = files["trials.csv"].iloc[:12]


def growing(files):
    files["trials.csv"].loc[:23, "hr_at_10"] = 0.0839


def failing(files):
    files["trials.csv"].loc[:10, "state"] = "FAILED"


def idle(files):
    quantile = files["trials.csv"]["entropy_quantile"]
    files["trials.csv"] = files["trials.csv"].assign(hr_at_10=0.08 + 0.01 * quantile, filter_rate=1 - quantile)


def clumped(files):
    files["trials.csv"].loc[:20, "filter_rate"] = 0.985


def single(files):
    files["pareto.csv"] = files["pareto.csv"][files["pareto.csv"]["trial_id"] == files["chosen.yaml"]["trial_id"]]


def reordered(files):
    files["pareto.csv"]["test_hr_at_10"] = -files["pareto.csv"]["valid_hr_at_10"]


def cut_off(files):
    files["spec.yaml"]["train"] = {"epochs": 41, "patience": 5}


def unpopular(files):
    files["provenance.json"]["data"]["popularity"] = {"hr_at_10": 0.1}


def dice(files):
    files["baselines.csv"]["test_vs_chosen_hr_at_10_high"] = 0.0001


def published(files):
    numbers = files["baselines.csv"]["trial_id"] == "published"
    files["baselines.csv"].loc[numbers, ["test_vs_chosen_hr_at_10_high", "test_filter_rate"]] = [0.001, 0.99]


def collapsing(files):
    files["stream.csv"] = stream(files, ends=(0.03, 0.08))


@pytest.mark.parametrize(
    ("name", "spoil", "said", "advice"),
    [
        ("failed trials", failing, "of 32 trials failed", "Read their reasons"),
        ("trials per parameter", few, "11 trials are few for 3 parameters", "--resume --trials 30"),
        ("growth of the front", growing, "still growing", "--resume --trials 64"),
        ("ends of the ranges", lambda f: front_with(f, top_k=2), "top_k at the low end of its range, 2",
         "--set space.top_k.low"),
        ("parameters without effect", idle, "top_k and cosine_threshold have no effect", "Fix them under adapt"),
        ("spread of the trials", clumped, "trials skip about as much, 9", "Narrow the ranges"),
        ("size of the front", single, "single point", "Let the space hold other gates"),
        ("order on test", reordered, "does not confirm the order", "rehearsal_share"),
        ("end of training", cut_off, "best epoch is 41 of 41", "--set train.epochs=82"),
        ("popularity", unpopular, "no better than recommending the most popular items", "Train it longer"),
        ("random skipping", dice, "not clearly better than random skipping", "Skip at random"),
        ("published gate", published, "not clearly better than the published one", "Use the published gate"),
        ("collapse", collapsing, "HR@10 is 0.0300, without adaptation 0.0800", "learning_rate"),
    ],
)  # fmt: skip
def test_a_check_finds_its_problem_and_says_what_to_do(tmp_path, files, name, spoil, said, advice):
    assert checked(tmp_path, files, name) is None
    spoil(files)
    found = checked(tmp_path, files, name)
    assert found is not None and said in found.title and advice in found.advice


def test_a_gate_of_ones_own_is_searched_longer_and_not_wider(tmp_path, files):
    single(files)
    files["spec.yaml"]["adapt"] = {"gate": "mypackage.gates:Mine"}
    found = checked(tmp_path, files, "size of the front")
    assert found is not None and found.advice.startswith("Search on with --resume --trials")


def test_every_check_is_tested():
    names = {mark.args[1][place][0] for mark in test_a_check_finds_its_problem_and_says_what_to_do.pytestmark
             for place in range(len(mark.args[1]))}  # fmt: skip
    assert names == set(CHECKS)


@pytest.mark.parametrize(
    ("parameter", "value"), [("entropy_quantile", 1.0), ("cosine_threshold", 1.0), ("top_k", 10672)]
)
def test_an_end_that_cannot_be_moved_is_no_problem(tmp_path, files, parameter, value):
    """The quantile and the threshold end at 1, and K at the number of items."""
    files["spec.yaml"]["space"]["top_k"]["high"] = 10672
    front_with(files, **{parameter: value})
    assert checked(tmp_path, files, "ends of the ranges") is None


def test_a_search_without_a_front_has_no_problems_to_tell(tmp_path, files):
    for name in ("pareto.csv", "baselines.csv"):
        files[name] = files[name].iloc[:0]
    assert problems(Answer(load(write(tmp_path / "run", files)))) == []
