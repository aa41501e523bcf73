"""provenance.json as labels and values."""

from made_up_search import made_up_files

from search.report.provenance import labelled


def test_each_recorded_item_has_its_label() -> None:
    record = made_up_files()["provenance.json"] | {"rehearsal": {"path": "r.safetensors"}}
    rows = dict(labelled(record))
    assert list(rows) == [
        "started", "finished", "code", "data", "data size", "samples", "data sha256", "checkpoint", "checkpoint sha256",
        "trained epochs", "checkpoint on validation", "rehearsal checkpoint", "search", "hardware", "versions",
    ]  # fmt: skip
    assert rows["started"] == "2026-11-20 09:12:44+00:00"
    assert rows["code"] == "commit 3f0c9e1b7a with uncommitted changes"
    assert rows["data size"] == "24,303 users, 10,672 items, 231,780 interactions"
    assert rows["samples"] == "train 70,497, valid 38,221, test 98,759"
    assert rows["checkpoint on validation"] == "HR@10 0.0949, NDCG@10 0.0456, HR@50 0.2301, NDCG@50 0.0748"
    assert rows["search"] == "tpe, 2 trials at a time, 1 thread each"
    assert rows["hardware"] == "AMD EPYC 7B13, 2 cores, 15.6 GiB memory, no GPU"
    assert rows["versions"].startswith("torch 2.13.0+cpu, ray 2.60.0, ")


def test_items_that_were_not_recorded_are_left_out() -> None:
    assert labelled({}) == []
    assert labelled({"git": {"commit": None, "dirty": None}, "data": None, "search": {"concurrency": 1}}) == [
        ("search", "1 trial at a time")
    ]
    assert labelled({"hardware": {"gpus": ["H100", "H100"], "cores": 1}}) == [("hardware", "1 core, H100, H100")]
