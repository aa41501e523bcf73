"""The HTTP interface of a served recommender: recommend, observe, health, and metrics in Prometheus' text form.

One call at a time reaches the model, which is one state; calls wait for each other.
"""

import hmac
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from etarec.clock import Stopwatch
from etarec.serving.durable import Durable
from etarec.serving.exposition import exposition

MAX_BODY = 2**22  # bytes
Token = Annotated[str, Field(min_length=1, max_length=512)]


class RecommendRequest(BaseModel):
    """Users by their ids, or histories of items, oldest first; at most 1,000 of them."""

    model_config = ConfigDict(extra="forbid")
    users: list[Token | Annotated[list[Token], Field(max_length=1000)]] = Field(min_length=1, max_length=1000)
    k: int = Field(default=10, ge=1, le=1000)
    leave_out_seen: bool = False


class Observation(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user: Token
    item: Token


class ObserveRequest(BaseModel):
    """Observations in the order in which they happened."""

    model_config = ConfigDict(extra="forbid")
    observations: list[Observation] = Field(min_length=1, max_length=10_000)


class Service:
    """The state behind the routes. seconds: by route, the sum and the number of its calls."""

    def __init__(self, served: Durable, about: dict[str, str]):
        self.served, self.about, self.lock = served, about, threading.Lock()
        self.seconds = {"recommend": (0.0, 0), "observe": (0.0, 0)}

    def recommend(self, request: RecommendRequest) -> dict[str, Any]:
        with self._alone("recommend"):
            found = self.served.recommend(request.users, request.k, leave_out_seen=request.leave_out_seen)
        return {"recommendations": [one._asdict() for one in found]}

    def observe(self, request: ObserveRequest) -> dict[str, int]:
        users, items = zip(*((each.user, each.item) for each in request.observations), strict=True)
        with self._alone("observe"):
            told = self.served.observe(users, items)
        return {"taken": told.taken, "unknown": told.unknown, "batches": len(told.batches)}

    def health(self) -> dict[str, Any]:
        recommender = self.served.recommender
        fallbacks = recommender.counts["fallbacks"]
        return {"status": "ok", **self.about, "users": len(recommender.users.by_token), "fallbacks": fallbacks}

    def metrics(self) -> str:
        with self.lock:
            return exposition(self.served.recommender, self.seconds)

    def close(self) -> None:
        """Take a snapshot, once no call is at work."""
        with self.lock:
            self.served.close()

    @contextmanager
    def _alone(self, route: str) -> Iterator[None]:
        with self.lock:
            stopwatch = Stopwatch()
            yield
            total, calls = self.seconds[route]
            self.seconds[route] = (total + stopwatch.seconds, calls + 1)


def application(service: Service, token: str) -> FastAPI:
    """The routes. With a token, all but /health need the header `Authorization: Bearer TOKEN`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    def authorised(authorization: Annotated[str, Header()] = "") -> None:
        if token and not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "expected the header Authorization: Bearer TOKEN")

    app = FastAPI(title="etarec", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.middleware("http")(_limited)
    private = APIRouter(dependencies=[Depends(authorised)])
    private.post("/recommend")(service.recommend)
    private.post("/observe")(service.observe)
    private.get("/metrics", response_class=PlainTextResponse)(service.metrics)
    app.get("/health")(service.health)
    app.include_router(private)
    return app


async def _limited(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse bodies that are larger than MAX_BODY or do not say how large they are."""
    length = request.headers.get("content-length", "0" if request.method == "GET" else "")
    if not length.isdigit():
        return JSONResponse({"detail": "expected a Content-Length"}, 411)
    if int(length) > MAX_BODY:
        return JSONResponse({"detail": f"expected at most {MAX_BODY} bytes"}, 413)
    return await call_next(request)
