"""One queue, consumed by workers of Celery and of amqpjobs at a time: nothing is lost."""

from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.contrib.celery import CeleryTask
from tests.support.amqp import count, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.celery_programs import Shop
from tests.support.waiting import until
from tests.support.workers import app_at, working

MANY = 12


def flaky_app(shop: Shop, type_: Any) -> App:
    """A task that fails here whenever it has run less than three times, as on Celery's side."""
    app = app_at(shop.url)

    @app.job(
        queue=Queue("celery", type=type_, foreign=True), body=CeleryTask, name="shop.tasks.flaky",
        retry=Retry(attempts=20, first=1, factor=1, jitter=0),
    )  # fmt: skip
    async def flaky(ctx: Context, n: int) -> int:
        shop.note(event="run", n=n, attempt=ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError("not yet")
        shop.note(event="done", n=n)
        return n

    return app


@pytest.mark.parametrize("type_", ["classic", "quorum"])
async def test_retries_of_both_sides(broker: VirtualHost, tmp_path: Path, type_: str) -> None:
    """A task that one side has retried runs on the other one, too; each is done once, and its
    caller gets the result."""
    shop = Shop(broker.url, type_, tmp_path)
    app = flaky_app(shop, type_)
    async with shop.worker(), shop.producer() as producer, app.lifespan(), working(app, prefetch=1):
        sent = [await producer.send("shop.tasks.flaky", n) for n in range(MANY)]
        done = lambda: len(shop.lines(event="done")) >= MANY  # noqa: E731
        await until(done, f"all are done: {shop.log}", 40)
        assert [await producer.get(each) for each in sent] == list(range(MANY))
        assert sorted(line["n"] for line in shop.lines(event="done")) == list(range(MANY))
        assert shop.lines(event="run", side="celery")
        assert shop.lines(event="run", side="amqpjobs")
        async with stranger(broker.url) as channel:
            assert await count(channel, "celery") == await count(channel, "celery.dead") == 0
