"""Tasks that Celery's producers send, run by workers of amqpjobs: real programs of Celery 5."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.client.deadletters import Selection
from amqpjobs.contrib.celery import CeleryTask
from tests.support.amqp import drain, ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.celery_programs import Producer, Shop
from tests.support.waiting import until
from tests.support.workers import app_at, working

TYPES = pytest.mark.parametrize("type_", ["classic", "quorum"])


def shop_app(shop: Shop, type_: Any) -> App:
    """The shop's tasks, as jobs."""
    app = app_at(shop.url)
    celery = Queue("celery", type=type_, foreign=True)

    @app.job(queue=celery, body=CeleryTask, name="shop.tasks.add")
    async def add(ctx: Context, x: int, y: int = 1) -> int:
        shop.note(event="done", n=[x, y], id=ctx.job_id, at=time.time(), attempt=ctx.attempt)
        return x + y

    @app.job(queue=celery, body=CeleryTask, name="shop.tasks.show")
    async def show(when: datetime, day: date, price: Decimal, data: bytes) -> str:
        return repr((when.astimezone(UTC), day, price, data))

    @app.job(queue=celery, body=CeleryTask, name="shop.tasks.fail")
    def fail() -> None:
        raise ValueError("sold out", 7)

    @app.job(
        queue=celery, body=CeleryTask, name="shop.tasks.flaky",
        retry=Retry(attempts=5, first=0.5, factor=1),
    )  # fmt: skip
    async def flaky(ctx: Context, n: int) -> int:
        shop.note(event="run", n=n, id=ctx.job_id, attempt=ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        return n

    return app


@asynccontextmanager
async def both(shop: Shop, type_: Any) -> AsyncIterator[tuple[App, Producer]]:
    """A producer of Celery, and a worker of amqpjobs."""
    app = shop_app(shop, type_)
    async with shop.producer() as producer:
        await producer.ask("declare")
        async with app.lifespan(), working(app):
            yield app, producer


@TYPES
async def test_a_worker_of_amqpjobs_runs_what_celery_sends(
    broker: VirtualHost, tmp_path: Path, type_: str
) -> None:
    """Arguments, results and failures arrive as from a worker of Celery."""
    shop = Shop(broker.url, type_, tmp_path)
    async with both(shop, type_) as (_, producer):
        sent = await producer.send("shop.tasks.add", 2, 3)
        assert await producer.get(sent) == 5
        assert shop.lines(id=sent, n=[2, 3], attempt=1)
        assert await producer.get(await producer.send("shop.tasks.add", 2, kwargs={"y": 8})) == 10
        packed = await producer.send("shop.tasks.add", 2, 4, compression="gzip")
        assert await producer.get(packed) == 6
        failed = await producer.send("shop.tasks.fail")
        assert await producer.get(failed) == {
            "raised": "ValueError", "module": "builtins", "args": ["sold out", 7]
        }  # fmt: skip
        retried = await producer.send("shop.tasks.flaky", 9)
        assert await producer.get(retried) == 9
        assert [line["attempt"] for line in shop.lines(id=retried)] == [1, 2, 3]
        special = await producer.ask("special")
        assert await producer.get(special) == repr(
            (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), date(2026, 1, 2), Decimal("1.5"), b"\xff")
        )


@TYPES
async def test_times(broker: VirtualHost, tmp_path: Path, type_: str) -> None:
    """`countdown` and `eta` are waited for, over a delay or over Celery's own; what has expired is
    not run, and its caller is told; a result that nobody wants is not sent."""
    shop = Shop(broker.url, type_, tmp_path)
    async with both(shop, type_) as (_, producer):
        begun = time.time()
        soon = await producer.send("shop.tasks.add", 1, countdown=1)
        late = await producer.send("shop.tasks.add", 2, eta=4)
        never = await producer.send("shop.tasks.add", 3, expires=0.5, countdown=3)
        ignored = await producer.send("shop.tasks.add", 4, ignore_result=True)
        assert await producer.get(soon) == 2
        assert await producer.get(late) == 3
        [soon_line], [late_line] = shop.lines(id=soon), shop.lines(id=late)
        assert 0.99 <= soon_line["at"] - begun < 5
        assert 3.9 <= late_line["at"] - begun < 10
        assert soon_line["attempt"] == late_line["attempt"] == 1
        assert shop.lines(id=ignored)
        found = await producer.get(never, timeout=3)
        assert found["raised"] in ("TaskRevokedError", "TimeoutError")  # RabbitMQ may drop it first
        assert not shop.lines(id=never)


@TYPES
async def test_workflows(broker: VirtualHost, tmp_path: Path, type_: str) -> None:
    """A chain goes on; `link` and `link_error` are called; a failed chain fails at its caller."""
    shop = Shop(broker.url, type_, tmp_path)
    add = {"task": "shop.tasks.add"}
    async with both(shop, type_) as (_, producer):
        calls: list[Any] = [{**add, "args": [2, 3]}, {**add, "args": [4]}, {**add, "args": [10]}]
        assert await producer.get(await producer.ask("chain", calls=calls)) == 19
        calls[1] = {**add, "args": [5, 6], "immutable": True}
        assert await producer.get(await producer.ask("chain", calls=calls)) == 21
        assert await producer.ask("group", calls=calls[:2]) == [5, 11]
        linked = await producer.send("shop.tasks.add", 2, 3, link={**add, "args": [100]})
        assert await producer.get(linked) == 5
        await until(lambda: shop.lines(n=[5, 100]), "the callback has run")
        failing = [{"task": "shop.tasks.fail"}, {**add, "args": [1], "immutable": True}]
        found = await producer.get(await producer.ask("chain", calls=failing))
        assert (found["raised"], found["args"]) == ("ValueError", ["sold out", 7])
        await producer.send(
            "shop.tasks.fail", link_error={**add, "args": [7, 7], "immutable": True}
        )
        await until(lambda: shop.lines(n=[7, 7]), "the callback of the error has run")


async def test_what_fails_for_good_is_a_dead_letter_and_can_be_replayed(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """Found by its task's name and id, although its caller has the error: whether it waits, nobody
    knows. Replayed, it is a task again. Unknown tasks are parked; pickle is refused in words."""
    shop = Shop(broker.url, "classic", tmp_path)
    async with both(shop, "classic") as (app, producer), stranger(broker.url) as channel:
        failed = await producer.send("shop.tasks.fail")
        unknown = await producer.send("shop.tasks.seen", 5)
        pickled = await producer.send("shop.tasks.add", 1, serializer="pickle")
        chord = await producer.ask("chord")
        await ready(channel, "celery.dead", 3)
        await ready(channel, "celery.parked", 1)
        look = await app.dead_letters().look()
        letters = {letter.id: letter for letter in look.letters if letter.failure}
        said = {key: each.failure.message for key, each in letters.items() if each.failure}
        assert letters[failed].job == "shop.tasks.fail"
        assert said[failed] == "('sold out', 7)"
        assert "pickle never" in said[pickled]
        assert "chord" in said[chord]
        assert (await app.dead_letters("celery").replay(Selection((failed,)))).done == 1
        await ready(channel, "celery.dead", 3)  # it has failed again
        [parked] = await drain(broker.url, "celery.parked")
        assert (parked.headers["task"], parked.headers["id"]) == ("shop.tasks.seen", unknown)


async def test_celery_runs_a_dead_letter_of_amqpjobs(broker: VirtualHost, tmp_path: Path) -> None:
    """Body and headers are Celery's: after a way back to Celery's worker, a failed task runs."""
    shop = Shop(broker.url, "classic", tmp_path)
    async with shop.producer() as producer, stranger(broker.url) as channel:
        await producer.ask("declare")
        app = app_at(broker.url)

        @app.job(queue=Queue("celery", type="classic", foreign=True), body=CeleryTask,
                 name="shop.tasks.add")  # fmt: skip
        async def add(x: int, y: int) -> int:
            raise RuntimeError("not here")

        async with app.lifespan():
            async with working(app):
                sent = await producer.send("shop.tasks.add", 2, 3)
                await ready(channel, "celery.dead", 1)
            async with shop.worker():
                assert (await app.dead_letters("celery").replay(Selection())).done == 1
                await until(lambda: shop.lines(id=sent, n=[2, 3]), "Celery has run it")
                later = await add.later(4, 5)
                await until(
                    lambda: shop.lines(id=later.id, n=[4, 5]), "what amqpjobs has sent, too"
                )
