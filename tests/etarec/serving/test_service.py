"""The HTTP routes, called as an ASGI application."""

import asyncio
import json
from typing import Any

import pytest
from fastapi import FastAPI

from etarec.config import AdaptConfig
from etarec.serving import Durable
from etarec.serving.service import MAX_BODY, Service, application


def call(
    app: FastAPI, method: str, path: str, body: Any = None, token: str = "", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """The status and the body, as JSON or text."""
    content = b"" if body is None else json.dumps(body).encode()
    sent: list[dict[str, Any]] = []
    given = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
    if token:
        given["authorization"] = f"Bearer {token}"
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    text = b"".join(message.get("body", b"") for message in sent).decode()
    kind = dict(sent[0]["headers"])[b"content-type"]
    return sent[0]["status"], json.loads(text) if kind.startswith(b"application/json") else text


@pytest.fixture
def service(deployment, tmp_path) -> Service:
    config = AdaptConfig(batch_size=12, learning_rate=0.03, top_k=5)
    return Service(Durable(deployment.recommender(config), tmp_path), {"run": "demo"})


def test_it_recommends_and_observes(service, deployment):
    app = application(service, "")
    users, items = deployment.observations("test")
    seen = [{"user": user, "item": item} for user, item in zip(users[:30], items[:30], strict=True)]
    told = call(app, "POST", "/observe", {"observations": [*seen, {"user": "x", "item": "no such item"}]})
    assert told == (200, {"taken": 30, "unknown": 1, "batches": 2})
    asked = {"users": [users[0], ["item 1", "item 2"], "stranger"], "k": 3, "leave_out_seen": True}
    status, answer = call(app, "POST", "/recommend", asked)
    expected = service.served.recommend(asked["users"], 3, leave_out_seen=True)
    assert status == 200 and [tuple(one["items"]) for one in answer["recommendations"]] == [e.items for e in expected]
    assert [one["by"] for one in answer["recommendations"]] == ["model", "model", "popularity"]
    status, answer = call(app, "GET", "/health")
    assert status == 200 and answer["status"] == "ok" and answer["run"] == "demo" and answer["fallbacks"] == 0
    status, text = call(app, "GET", "/metrics")
    assert status == 200 and "etarec_observations_total 30\n" in text and 'calls_total{route="observe"} 1' in text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/recommend", {"users": []}),
        ("/recommend", {"users": ["a"], "k": 0}),
        ("/recommend", {"users": ["a"], "kk": 1}),
        ("/recommend", {"users": [3]}),
        ("/recommend", {"users": ["a" * 513]}),
        ("/observe", {"observations": []}),
        ("/observe", {"observations": [{"user": "a"}]}),
        ("/observe", [1]),
    ],
)
def test_a_wrong_request_is_refused_and_changes_nothing(service, path, body):
    status, answer = call(application(service, ""), "POST", path, body)
    assert status == 422 and answer["detail"]
    assert not service.served.recommender.counts


def test_all_but_health_need_the_token_where_there_is_one(service):
    app = application(service, "secret")
    for token in ("", "wrong", "secre"):
        assert call(app, "POST", "/recommend", {"users": ["a"]}, token)[0] == 401
        assert call(app, "POST", "/observe", {"observations": [{"user": "a", "item": "item 1"}]}, token)[0] == 401
        assert call(app, "GET", "/metrics", token=token)[0] == 401
    assert not service.served.recommender.counts
    assert call(app, "GET", "/health")[0] == 200
    assert call(app, "POST", "/recommend", {"users": ["a"]}, "secret")[0] == 200


def test_a_body_says_how_large_it_is_and_is_not_too_large(service):
    app = application(service, "")
    body = {"users": ["a"]}
    assert call(app, "POST", "/recommend", body, headers={"content-length": str(MAX_BODY + 1)})[0] == 413
    assert call(app, "POST", "/recommend", body, headers={"content-length": ""})[0] == 411


def test_the_application_ends_with_a_snapshot(service, deployment, tmp_path):
    users, items = deployment.observations("test")
    app = application(service, "")

    async def live() -> None:
        async with app.router.lifespan_context(app):
            service.served.observe(users[:20], items[:20])

    asyncio.run(live())
    again = Durable(deployment.recommender(service.served.recommender.config), tmp_path)
    assert again.recovered == 0 and again.recommender.counts["observations"] == 20
