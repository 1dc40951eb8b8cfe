"""FastAPI applications: lifespans compose, handlers get the app, the API is a router in them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI, HTTPException, Request

from amqpjobs import App
from amqpjobs.errors import ConfigurationError
from amqpjobs.web.fastapi import Jobs, get_app, lifespan, router
from tests.support.amqp import drain
from tests.support.brokers.broker_server import VirtualHost
from tests.support.web import client_of
from tests.support.workers import app_at


@pytest.fixture
def app(broker_43: VirtualHost) -> App:
    made = app_at(broker_43.url, store_url="sqlite:////nowhere/status.db")

    @made.job(queue="numbers")
    async def double(n: int) -> int:
        return 2 * n

    made.double = double  # type: ignore[attr-defined]
    return made


async def test_lifespans_compose_and_handlers_get_the_app(app: App, broker_43: VirtualHost) -> None:
    """The application's own are inside: they may enqueue, at the start and at the end."""
    events = []

    @asynccontextmanager
    async def own(api: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await app.enqueue(app.double.message(1))  # type: ignore[attr-defined]
        events.append("up")
        yield {"motto": "doubled"}
        await app.enqueue(app.double.message(3))  # type: ignore[attr-defined]
        events.append("down")

    @asynccontextmanager
    async def silent(api: FastAPI) -> AsyncIterator[None]:
        events.append("silent")
        yield

    api = FastAPI(lifespan=lifespan(app, own, silent))

    @api.post("/double/{n}")
    async def double(n: int, jobs: Jobs, request: Request) -> list[str]:
        assert jobs is app
        job = await jobs.enqueue(app.double.message(n))  # type: ignore[attr-defined]
        return [job.queue, request.state.motto]

    async with client_of(api) as client:
        assert (await client.post("/double/2")).json() == ["numbers", "doubled"]
    assert events == ["up", "silent", "down"]
    assert [m.body for m in await drain(broker_43.url, "numbers")] == [b"1", b"2", b"3"]


async def test_the_api_is_a_router_in_it(app: App) -> None:
    """With its errors as problem details, its headers and its guard, under any prefix; what is the
    application's own stays as it is."""
    api = FastAPI(lifespan=lifespan(app))
    api.include_router(router(app), prefix="/api")

    @api.get("/own")
    async def own() -> None:
        raise HTTPException(418, "theirs")

    async with client_of(api) as client:
        accepted = await client.post("/api/jobs/double", json=1)
        wrong = await client.post("/api/jobs/double", json="x")
        refused = await client.get("/api/queues", headers={"Host": "evil.example"})
        ready = await client.get("/api/readyz")
        theirs = await client.get("/own")
    assert accepted.status_code == 202
    assert wrong.json()["reason"] == "invalid-arguments"
    assert wrong.headers["Content-Type"] == "application/problem+json"
    assert wrong.headers["X-Content-Type-Options"] == "nosniff"
    assert refused.status_code == 403
    assert ready.status_code == 200
    assert theirs.json() == {"detail": "theirs"}
    assert "X-Content-Type-Options" not in theirs.headers


async def test_its_own_guard_is_added(app: App) -> None:
    """As for every router of FastAPI."""

    def nobody() -> None:
        raise HTTPException(401, "no")

    api = FastAPI(lifespan=lifespan(app))
    api.include_router(router(app), dependencies=[Depends(nobody)])
    async with client_of(api) as client:
        assert (await client.post("/jobs/double", json=1)).status_code == 401


async def test_a_test_gives_another_app(app: App) -> None:
    """By FastAPI's own way."""
    api = FastAPI()

    @api.get("/name")
    async def name(jobs: Jobs) -> str:
        return jobs.name

    api.dependency_overrides[get_app] = lambda: App("another")
    async with client_of(api) as client:
        assert (await client.get("/name")).json() == "another"


async def test_without_the_lifespan_it_says_what_is_missing(app: App) -> None:
    """Not an AttributeError in a handler."""
    api = FastAPI()

    @api.get("/name")
    async def name(jobs: Jobs) -> str:
        return jobs.name

    said = []

    @api.exception_handler(ConfigurationError)
    async def note(request: Request, error: Exception) -> None:
        said.append(str(error))
        raise HTTPException(500)

    async with client_of(api) as client:
        await client.get("/name")
    assert "lifespan(app)" in said[0]
