"""Metrics in Prometheus' text form."""

import re

from etarec.config import AdaptConfig
from etarec.serving.exposition import exposition
from etarec.serving.guard import Guard

LINE = re.compile(r'# (HELP|TYPE) etarec_[a-z0-9_]+ .+|etarec_[a-z0-9_]+(\{[a-z]+="[a-z_]+"\})? [0-9.e+-]+')


def test_every_count_is_told(deployment):
    recommender = deployment.recommender(AdaptConfig(batch_size=12, top_k=5), guard=Guard())
    users, items = deployment.observations("test")
    recommender.observe(users[:30], [*items[:29], "no such item"])
    recommender.recommend(users[:7])
    text = exposition(recommender, {"observe": (0.25, 3)})
    assert all(LINE.fullmatch(line) for line in text.splitlines()) and text.endswith("\n")
    told = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert told["etarec_observations_total"] == "29" and told["etarec_unknown_items_total"] == "1"
    assert told["etarec_recommendations_total"] == "7" and told["etarec_batches_total"] == "2"
    assert told["etarec_waiting"] == "5" and told["etarec_users"] == str(len(deployment.names()))
    assert sum(int(n) for key, n in told.items() if key.startswith("etarec_samples_total")) == 24
    assert (
        told['etarec_seconds_total{route="observe"}'] == "0.25" and told['etarec_calls_total{route="observe"}'] == "3"
    )
    assert 0 <= float(told['etarec_recent_hit_rate{model="frozen"}']) <= 1
    kinds = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(kinds) == len(set(kinds))
