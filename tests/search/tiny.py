"""The experiment file of a search that trains and measures in seconds, as data."""

TINY = {
    "data": {"dataset": "simulated", "simulation": {"users": 150, "items": 60}},
    "model": {"width": 8, "heads": 2, "mlp_width": 8},
    "train": {"epochs": 1},
    "space": {"top_k": {"low": 2, "high": 20}},
}
