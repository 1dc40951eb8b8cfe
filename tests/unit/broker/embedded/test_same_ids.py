"""One id for two jobs: both run, whatever else happens to them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from amqpjobs import App, Message, Retry
from amqpjobs.broker.embedded import Broker
from amqpjobs.jobs.message.header_names import HEADER_COPY
from amqpjobs.jobs.message.ids import keyed_id
from tests.support.amqp import publish, stranger
from tests.support.waiting import until
from tests.support.workers import app_at, working

Enqueue = Callable[[App, Message[Any], str], Awaitable[object]]


async def _by_key(app: App, message: Message[Any], url: str) -> None:
    """As ``enqueue --key``, an Idempotency-Key and a webhook do."""
    await app.enqueue(replace(message, id=keyed_id(app.name, message.job, "k")))


async def _again(app: App, message: Message[Any], url: str) -> None:
    await app.enqueue(message)


async def _by_a_stranger(app: App, message: Message[Any], url: str) -> None:
    async with stranger(url) as channel:
        given = {"message_id": "constant", "type": message.job, "app_id": app.name}
        await publish(channel, message.queue, message.body, **given)


WAYS = pytest.mark.parametrize(
    "enqueue", [_by_key, _again, _by_a_stranger], ids=["key", "same message", "stranger"]
)


@WAYS
async def test_an_id_that_was_retried_here_runs_when_it_is_enqueued_anew(
    plain: Broker, enqueue: Enqueue
) -> None:
    """Its first life is remembered, and its second one comes as a redelivery."""
    app = app_at(plain.url)
    runs: list[str] = []
    busy, go = asyncio.Event(), asyncio.Event()

    @app.job(queue="work", retry=Retry(attempts=2, first=0, jitter=False))
    async def job() -> None:
        runs.append("job")
        if len(runs) == 1:
            raise ValueError("once")

    @app.job(queue="work")
    async def gate() -> None:
        busy.set()
        await go.wait()

    message = job.message()
    async with working(app, "work", concurrency=1, prefetch=2) as worker:
        await enqueue(app, message, plain.url)
        await until(lambda: len(runs) == 2, "it was retried")
        await gate.later()
        await busy.wait()
        await enqueue(app, message, plain.url)
        await until(lambda: worker.snapshot().waiting == 1, "it waits behind the other")
        [gated] = worker._consuming.running
        assert plain.faults.cut_now() > 0
        await until(lambda: gated.delivery.stale, "its connection is lost")
        go.set()
        await until(lambda: len(runs) == 3, "it runs again")


async def test_only_what_needs_a_token_has_one(plain: Broker) -> None:
    """A plain job has an id that nothing else has, and pays for no header."""
    app = app_at(plain.url)

    @app.job(queue="work")
    async def job() -> None: ...

    async with app.lifespan():
        first = job.message()
        await app.enqueue(first)
        await app.enqueue(first)
        await app.later_many([replace(first, id="mine"), job.message()])
        tokens = []
        async with stranger(plain.url) as channel:
            queue = await channel.get_queue("work", ensure=False)
            for _ in range(4):
                got = await queue.get(no_ack=True)
                tokens.append(got.headers.get(HEADER_COPY))
    assert tokens[0] is tokens[3] is None
    assert None not in tokens[1:3]
    assert tokens[1] != tokens[2]
