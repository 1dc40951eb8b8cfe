"""Requests whose queue nobody consumes: looked at seldom, and given up only after several looks."""

import asyncio
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.client import no_workers
from amqpjobs.errors import NoWorker
from tests.support.waiting import until
from tests.support.workers import app_at, working


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(no_workers, "LOOK", 0.1)


def echoing(url: str, **settings: Any) -> tuple[App, Any]:
    app = app_at(url, **settings)

    @app.job(queue="work")
    async def echo(n: int) -> int:
        return n

    return app, echo


def looks(app: App) -> Any:
    assert app.client.opened is not None
    return app.client.opened.replies._no_workers


async def test_a_worker_that_comes_in_time_answers() -> None:
    """Looks without a consumer count from the first; one look with a consumer ends that."""
    async with Broker() as broker:
        app, echo = echoing(broker.url, no_worker_timeout=20)
        async with app.lifespan():
            asking = asyncio.ensure_future(echo.request(1))
            await until(lambda: "work" in looks(app)._absent, "it was seen that nobody consumes")
            async with working(app):
                assert await asking == 1
            await until(lambda: not looks(app).active, "nobody looks any more")


async def test_requests_that_are_answered_at_once_cost_no_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[set[str]] = []
    before = no_workers.Declarer.look_at_all

    async def look(self: Any, queues: Any) -> Any:
        looked.append(set(queues))
        return await before(self, queues)

    monkeypatch.setattr(no_workers.Declarer, "look_at_all", look)
    async with Broker() as broker:
        app, echo = echoing(broker.url)
        async with app.lifespan(), working(app):
            for n in range(200):
                assert await echo.request(n) == n
            assert looked == []


async def test_all_that_wait_for_such_a_queue_fail_and_later_ones_are_looked_at_again() -> None:
    async with Broker() as broker:
        app, echo = echoing(broker.url, no_worker_timeout=0.3)
        async with app.lifespan():
            for _ in range(2):
                asked = [echo.with_options(timeout=30).request(n) for n in range(3)]
                found = await asyncio.gather(*asked, return_exceptions=True)
                assert [type(error) for error in found] == [NoWorker] * 3
                assert "amqpjobs consume work" in str(found[0])
                await until(lambda: not looks(app).active, "nobody looks any more")


async def test_a_look_that_fails_costs_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the permission, or in a moment without a connection."""
    tried: list[int] = []

    async def refused(self: Any, queues: Any) -> Any:
        tried.append(1)
        raise ConnectionResetError

    monkeypatch.setattr(no_workers.Declarer, "look_at_all", refused)
    async with Broker() as broker:
        app, echo = echoing(broker.url, no_worker_timeout=0.2)
        async with app.lifespan():
            asking = asyncio.ensure_future(echo.with_options(timeout=30).request(1))
            await until(lambda: len(tried) > 3, "it was tried")
            assert not asking.done()
            async with working(app):
                assert await asking == 1


async def test_zero_waits_out_the_timeout() -> None:
    async with Broker() as broker:
        app, echo = echoing(broker.url, no_worker_timeout=0)
        async with app.lifespan():
            assert looks(app).active  # so that it is never begun
            asking = asyncio.ensure_future(echo.with_options(timeout=30).request(1))
            async with working(app):
                assert await asking == 1
            assert looks(app)._task is None
