"""The folder of a search that never ran: a small simulated log, a model that was not trained, and a configuration."""

import dataclasses
from pathlib import Path

import torch
import yaml

from etarec import checkpoint
from etarec.checkpoint import Checkpoint
from etarec.config import AdaptConfig, ColumnsConfig, DataConfig, ModelConfig, SimulationConfig, TrainConfig
from etarec.data import load
from etarec.models import build
from etarec.simulate import interactions

CONFIG = AdaptConfig(batch_size=16, learning_rate=0.03, top_k=5, entropy_quantile=0.8, cosine_threshold=0.8)
MODEL = ModelConfig(width=16, heads=2, mini_batch=4, mlp_width=32)


def made_up_run(folder: Path, config: AdaptConfig = CONFIG) -> Path:
    """Writes all that serving reads, and the log beside it; always the same."""
    run, log = folder / "run", folder / "clicks.csv"
    run.mkdir(parents=True)
    columns = ColumnsConfig(user="user", item="item", timestamp="time")
    frame = interactions(SimulationConfig(users=60, items=40))
    frame.columns = ["user", "item", "time"]
    frame.to_csv(log, index=False)
    data = DataConfig(path=str(log), columns=columns, max_length=9)
    write_checkpoint(run / "checkpoint.safetensors", data)
    about = {"path": str(log), "columns": dataclasses.asdict(columns), "max_length": 9}
    (run / "spec.yaml").write_text(yaml.safe_dump({"name": "made-up", "data": about, "search": {"seed": 4}}))
    chosen = {"verdict": "use_chosen", "advice": "Use trial-0002.", "trial_id": "trial-0002"}
    (run / "chosen.yaml").write_text(yaml.safe_dump({**chosen, "adapt": dataclasses.asdict(config)}))
    (run / "provenance.json").write_text("{}")
    return run


def write_checkpoint(path: Path, config: DataConfig) -> None:
    data = load(config)
    torch.manual_seed(0)
    weights = {name: tensor.numpy() for name, tensor in build(MODEL, data.n_items).state_dict().items()}
    valid = {"hr_at_10": 0.1}
    checkpoint.write(Checkpoint(MODEL, TrainConfig(), weights, data.vocabulary, data.sha256, 1, valid), path)
