"""The result files of a search that never ran: 32 trials, their front and the baselines, consistent with each other."""

import json
import math

import numpy as np
import pandas as pd
import yaml

from etarec.metrics import label
from search.selection.differences import TO_CHOSEN, compared, difference_columns, interval_columns
from search.selection.pareto import choose, non_dominated

TRAINED = {"hr_at_10": 0.0949, "ndcg_at_10": 0.0456, "hr_at_50": 0.2301, "ndcg_at_50": 0.0748}
TIMES_HR_AT_10 = {"hr_at_10": 1.0, "ndcg_at_10": 0.48, "hr_at_50": 2.42, "ndcg_at_50": 0.79}
ALONG = (10, 36, 62, 88)  # percent at which random skipping was measured
INNER_BUG = 'Traceback (most recent call last):\n  File "adapt.py", line 3\nRuntimeError: loss is | not <finite>\n'

FILES = ("spec.yaml", "provenance.json", "trials.csv", "pareto.csv", "baselines.csv", "chosen.yaml")


def measurement(hr, rate, samples, seconds_of_all):
    """A measurement whose other metrics follow HR@10 and whose seconds follow the filter rate."""
    seconds = {"forward_seconds": 0.4 * seconds_of_all, "gate_seconds": 0.006 * seconds_of_all}
    seconds["adapt_seconds"] = 1.0 * seconds_of_all * (1 - rate)
    costs = {"shallow_rate": 0.0, "transitions_per_pass": 1.6, "arithmetic": 1 - rate}
    return {
        **{metric: times * hr for metric, times in TIMES_HR_AT_10.items()}, "filter_rate": rate,
        "filtered_by_entropy": 0.8 * rate, "filtered_by_redundancy": 0.2 * rate,
        "seconds": sum(seconds.values()) + 0.5 * seconds_of_all, **seconds, **costs,
    }  # fmt: skip


def both(name, quality, valid_hr, valid_rate, test_hr, test_rate, everything, **parameters):
    """A row of pareto.csv or baselines.csv in a search for `quality`."""
    row = {"trial_id": name, **parameters}
    row |= {f"valid_{key}": value for key, value in measurement(valid_hr, valid_rate, 38221, 14.2).items()}
    row |= {f"test_{key}": value for key, value in measurement(test_hr, test_rate, 98759, 61.3).items()}
    delta = test_hr - everything
    reach = 0.0004 + 0.15 * abs(delta)
    p = max(0.0001, math.erfc(abs(delta) / (reach / 1.96) / math.sqrt(2)))
    for metric in ("hr_at_10", quality):
        bounds = (test_hr - 0.0019, test_hr + 0.0018)
        row |= dict(zip(interval_columns(metric), TIMES_HR_AT_10[metric] * np.array(bounds), strict=True))
    for metric in compared(quality):
        times = TIMES_HR_AT_10[metric]
        row |= gap(f"delta_{metric}", times * delta, times * reach, p)
        row |= gap(f"vs_none_{metric}", times * (test_hr - 0.0795), times * 0.0008, 0.0001)
        row |= gap(f"vs_random_{metric}", times * (test_hr - random_at(test_rate)), times * 0.0007, 0.003)
    return row


def gap(name, difference, reach, p):
    column = f"test_{name}"
    bounds = {f"{column}_low": difference - reach, f"{column}_high": difference + reach}
    return {column: difference, **bounds, f"{column}_p": p, f"{column}_p_holm": min(1, 12 * p)}


def random_at(rate):
    """HR@10 of random skipping on test, between adapting on every sample and no adaptation."""
    return 0.0894 - 0.0099 * rate**0.7


def made_up_trials(count=32):
    """Made-up trials: HR@10 falls with the filter rate, more slowly for large K, with noise."""
    rng = np.random.default_rng(3)
    rows = []
    for number in range(count):
        top_k = None if number == 5 else int(np.exp(rng.uniform(np.log(2), np.log(500))))
        quantile, cosine = rng.uniform(0.05, 1), float(np.exp(rng.uniform(np.log(0.01), 0)))
        rate = np.clip(1 - quantile * (0.45 + 0.55 * cosine**0.25) + rng.normal(0, 0.07), 0.01, 0.99)
        worth = 0.3 + 0.7 * np.log(top_k or 10672) / np.log(10672)
        hr = 0.0949 - 0.009 * rate ** (1 + 2 * worth) - 0.001 * (1 - worth) + rng.normal(0, 0.0005)
        row = {"trial_id": f"t{number:04d}", "state": "FINISHED", "top_k": top_k, "entropy_quantile": quantile}
        row |= {"cosine_threshold": cosine, **measurement(hr, rate, 38221, 14.2)}
        rows.append(row | {"mlflow_run_id": f"{number:032x}", "error": ""})
    for number, (state, error) in {
        9: ("FAILED", INNER_BUG), 17: ("FAILED", INNER_BUG), 30: ("KILLED", "stopped by the user"),
    }.items():  # fmt: skip
        keep = ("trial_id", "top_k", "entropy_quantile", "cosine_threshold", "mlflow_run_id")
        rows[number] = {key: rows[number][key] for key in keep} | {"state": state, "error": error}
    return pd.DataFrame(rows).astype({"top_k": "Int64"})


def made_up_baselines(chosen, quality):
    everything, rate = 0.0894, chosen["valid_filter_rate"]
    values = {
        "none": (0.0838, 1.0, 0.0795, 1.0),
        "all": (0.0951, 0.0, everything, 0.0),
        "random": (0.0925, rate, random_at(rate + 0.032), rate + 0.032),
        **{
            f"random {rate}%": (0.0951 - 0.00011 * rate, rate / 100, random_at(rate / 100), rate / 100)
            for rate in ALONG
        },
        "naive": (0.0893, 0.61, 0.0840, 0.66),
        "published": (0.0931, 0.31, 0.0881, 0.36),
    }
    gate = {"top_k": 50, "entropy_quantile": 0.5, "cosine_threshold": 0.3}
    table = pd.DataFrame([both(name, quality, *numbers, everything, **gate) for name, numbers in values.items()])
    to_random = [name for name in table if "vs_random" in name]
    table.loc[table["trial_id"].str.match("none|all|random"), to_random] = math.nan
    for metric in compared(quality):
        gap, reach = table[f"test_{metric}"] - chosen[f"test_{metric}"], 0.0009 * TIMES_HR_AT_10[metric]
        columns = difference_columns(TO_CHOSEN, metric)[:4]
        table = table.assign(**dict(zip(columns, (gap, gap - reach, gap + reach, 0.004), strict=True)))
    return table


def made_up_front(trials, quality):
    finished = trials[trials["state"] == "FINISHED"]
    points = finished[non_dominated(finished[["hr_at_10", "filter_rate"]])].sort_values("filter_rate")
    rng, rows = np.random.default_rng(1), []
    for trial in points.to_dict("records"):
        test_rate = min(trial["filter_rate"] + rng.uniform(0.02, 0.05), 0.99)
        test_hr = trial["hr_at_10"] - 0.0056 + rng.normal(0, 0.0003)
        parameters = {name: trial[name] for name in ("top_k", "entropy_quantile", "cosine_threshold")}
        measured = (trial["hr_at_10"], trial["filter_rate"], test_hr, test_rate)
        rows.append(both(trial["trial_id"], quality, *measured, 0.0894, **parameters))
    front = pd.DataFrame(rows)
    return front.assign(on_test_front=non_dominated(front[["test_hr_at_10", "test_filter_rate"]]))


def made_up_files(quality="hr_at_10"):
    trials = made_up_trials()
    front = made_up_front(trials, quality)
    everything, word = 0.0951 * TIMES_HR_AT_10[quality], label(quality)
    choice = choose(front[f"valid_{quality}"], front["valid_filter_rate"], 0.005, everything, metric=word)
    chosen = front.iloc[choice.index]
    spec = {
        "name": "video games", "data": {"path": "amazon-video-games.inter.gz", "order": "position"},
        "model": {"name": "ttt4rec"}, "train": {"epochs": 300}, "adapt": {"target": "weights"},
        "space": {
            "top_k": {"low": 2, "high": 500, "log": True}, "entropy_quantile": {"low": 0.05, "high": 1.0},
            "cosine_threshold": {"low": 0.01, "high": 1.0, "log": True},
        },
        "search": {"trials": 32, "seed": 0, "objectives": [quality, "filter_rate"], "choose": {"tolerance": 0.005}},
        "baselines": ["none", "all", "random", "naive", "published"],
    }  # fmt: skip
    provenance = {
        "command": "python -m search.tune --space configs/amazon_video_games.yaml --trials 32 --out runs/video-games",
        "started": "2026-11-20T09:12:44+00:00", "finished": "2026-11-20T09:47:03+00:00",
        "git": {"commit": "3f0c9e1b7a", "dirty": True},
        "data": {
            "source": "amazon-video-games.inter.gz", "sha256": "9b1d" * 16, "users": 24303, "items": 10672,
            "interactions": 231780, "samples": {"train": 70497, "valid": 38221, "test": 98759},
        },
        "checkpoint": {"path": ".cache/checkpoints/ttt4rec.safetensors", "sha256": "0a4e" * 16, "epochs": 41,
                       "valid": TRAINED},
        "versions": {"torch": "2.13.0+cpu", "ray": "2.60.0", "optuna": "5.0.0", "mlflow": "3.17.2", "numpy": "2.4.6"},
        "hardware": {"cpu": "AMD EPYC 7B13", "cores": 2, "memory_gib": 15.6, "gpus": []},
        "seconds": {"data": 3.1, "train": 1180.4, "search": 492.7, "test": 381.5},
        "search": {
            "requested": 32, "finished": 29, "failed": 2, "killed": 1, "concurrency": 2, "threads_per_trial": 1,
            "sampler": "tpe", "hypervolume": 0.07, "interrupted": False,
        },
    }  # fmt: skip
    recommendation = {
        "trial_id": chosen["trial_id"], "why": choice.reason,
        "rule": f"the highest filter rate whose {word} on validation is within 0.5% of the reference",
        "adapt": {"target": "weights", "top_k": int(chosen["top_k"]), "admit": "confident"},
        "set": [f"adapt.{name}={chosen[name]}" for name in ("top_k", "entropy_quantile", "cosine_threshold")],
    }  # fmt: skip
    return {
        "spec.yaml": spec, "provenance.json": provenance, "trials.csv": trials, "pareto.csv": front,
        "baselines.csv": made_up_baselines(chosen, quality), "chosen.yaml": recommendation,
    }  # fmt: skip


def stream(files, ends):
    """stream.csv with eight segments; over the last quarter `all` and `none` have the given HR@10."""
    qualities = {files["chosen.yaml"]["trial_id"]: 0.09, "none": ends[1], "all": ends[0]}
    rows = [
        {"configuration": name, "samples": 1000.0 * n, "hr_at_10": end if n > 6 else 0.08, "filter_rate": n / 10}
        for name, end in qualities.items()
        for n in range(1, 9)
    ]
    return pd.DataFrame(rows)


def write(directory, files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if name.endswith(".csv"):
            content.to_csv(directory / name, index=False)
        else:
            text = json.dumps(content) if name.endswith(".json") else yaml.safe_dump(content, sort_keys=False)
            (directory / name).write_text(text, encoding="utf-8")
    return directory
