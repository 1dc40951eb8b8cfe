"""Events with all that jobs have: they stay one job over every copy that is made of them."""

import sys
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import Context, Exchange, Limit, Retry, Snooze
from amqpjobs.jobs.message.origin import Event, job_id_of
from tests.support.amqp import count, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.exchanging import Pika
from tests.support.waiting import until
from tests.support.workers import app_at, working

ORDERS = Exchange("orders", type="topic")
IDS = pytest.mark.parametrize("event_id", [None, "event-1"])


def is_one_job(seen: list[tuple[str, Event | None]], event_id: str | None) -> bool:
    """Whether all runs are of one job and one event."""
    ids, events = {job_id for job_id, _ in seen}, {event for _, event in seen}
    expected = Event(event_id, "orders", "order.placed", None, None, None)
    return len(ids) == 1 and events == {expected} and (
        event_id is None or ids == {job_id_of(event_id, "billing")}
    )  # fmt: skip


def given(event_id: str | None) -> dict[str, Any]:
    return {} if event_id is None else {"message_id": event_id}


@IDS
async def test_a_durable_job(broker: VirtualHost, tmp_path: Path, event_id: str | None) -> None:
    """Its steps are done once, however often it waits."""
    app = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/jobs.db")
    seen: list[tuple[str, Event | None]] = []
    steps: list[str] = []

    @app.on(ORDERS, "order.placed", queue="billing", durable=True)
    async def bill(ctx: Context, order: int) -> None:
        seen.append((ctx.job_id, ctx.event))
        await ctx.step("write", write, order)
        await ctx.sleep("pause", 1.5)
        await ctx.step("send", write, order + 1)

    async def write(order: int) -> None:
        steps.append(str(order))

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
        await until(lambda: steps == ["1", "2"], "both steps are done")
        await ready(channel, "billing", 0)
        assert await count(channel, "billing.dead") == 0
    assert steps == ["1", "2"]
    assert len(seen) == 2
    assert is_one_job(seen, event_id)


@IDS
async def test_a_durable_job_without_a_store(
    broker: VirtualHost, monkeypatch: pytest.MonkeyPatch, event_id: str | None
) -> None:
    """Its message carries its steps over a retry."""
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)  # the extra is not installed
    app = app_at(broker.url)
    seen: list[tuple[str, Event | None]] = []
    steps: list[str] = []

    @app.on(ORDERS, "order.placed", queue="billing", durable=True, retry=Retry(attempts=2, first=1))
    async def bill(ctx: Context, order: int) -> None:
        seen.append((ctx.job_id, ctx.event))
        await ctx.step("write", write, order)
        if ctx.attempt == 1:
            raise ConnectionError("the bank is closed")
        await ctx.step("send", write, order + 1)

    async def write(order: int) -> None:
        steps.append(str(order))

    async with app.lifespan(), working(app):
        await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
        await until(lambda: len(seen) == 2 and steps == ["1", "2"], "both steps are done")
    assert is_one_job(seen, event_id)


@IDS
async def test_a_durable_job_that_calls_another(
    broker: VirtualHost, tmp_path: Path, event_id: str | None
) -> None:
    """It goes on when that has ended."""
    app = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/jobs.db")
    seen: list[tuple[str, Event | None]] = []
    done: list[int] = []

    @app.job(queue="bank")
    async def collect(order: int) -> int:
        return order * 2

    @app.on(ORDERS, "order.placed", queue="billing", durable=True)
    async def bill(ctx: Context, order: int) -> None:
        seen.append((ctx.job_id, ctx.event))
        done.append(await ctx.call("collect", collect, order))

    async with app.lifespan(), working(app):
        await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
        await until(lambda: done == [2], "it is done")
    assert is_one_job(seen, event_id)


@IDS
async def test_a_limit(broker: VirtualHost, tmp_path: Path, event_id: str | None) -> None:
    """What waits for its turn waits in the store, and is the same job after that."""
    app = app_at(broker.url, store_url=f"sqlite:///{tmp_path}/jobs.db")
    seen: list[tuple[str, Event | None]] = []
    running: list[int] = []

    @app.on(ORDERS, "order.placed", queue="billing", limit=Limit(1))
    async def bill(ctx: Context, order: int) -> None:
        running.append(order)
        assert len(running) == 1
        if order == 1:
            seen.append((ctx.job_id, ctx.event))
        await until(lambda: order != 0 or len(held) > 0, "the other one has come")
        running.remove(order)

    held: list[int] = []
    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await Pika().send(broker.url, "orders", "order.placed", b"0")
        await until(lambda: running, "the first runs")
        await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
        await ready(channel, "billing", 0)
        held.append(1)
        await until(lambda: seen, "the second runs")
    assert is_one_job(seen, event_id)


@IDS
async def test_a_snooze(broker: VirtualHost, event_id: str | None) -> None:
    """It comes later, over the delays."""
    app = app_at(broker.url)
    seen: list[tuple[str, Event | None]] = []

    @app.on(ORDERS, "order.placed", queue="billing")
    async def bill(ctx: Context, order: int) -> None:
        seen.append((ctx.job_id, ctx.event))
        if len(seen) < 3:
            raise Snooze(1.2)

    async with app.lifespan(), working(app):
        await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
        await until(lambda: len(seen) == 3, "it has run three times")
    assert is_one_job(seen, event_id)


@IDS
async def test_a_stop_while_it_runs(broker: VirtualHost, event_id: str | None) -> None:
    """RabbitMQ delivers the event again, as it was published. Without an id of the event nothing
    says that it is the same job."""
    app = app_at(broker.url)
    seen: list[tuple[str, Event | None]] = []
    go: list[bool] = []

    @app.on(ORDERS, "order.placed", queue="billing")
    async def bill(ctx: Context, order: int) -> None:
        seen.append((ctx.job_id, ctx.event))
        await until(lambda: go, "it may end")

    async with app.lifespan():
        async with working(app):
            await Pika().send(broker.url, "orders", "order.placed", b"1", **given(event_id))
            await until(lambda: len(seen) == 1, "it runs")
        go.append(True)
        async with working(app):
            await until(lambda: len(seen) == 2, "it runs again")
    assert len({event for _, event in seen}) == 1
    assert is_one_job(seen, event_id) == (event_id is not None)
