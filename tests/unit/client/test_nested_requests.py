"""Requests that jobs send to queues of their own worker: named when they fill every slot."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from amqpjobs import App, Context, Retry
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import ReplyTimeout
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.middleware import Publishing
from tests.support.waiting import until
from tests.support.workers import app_at, working

WARNING = "every slot waits for a request"
HINT = "every slot of this worker (concurrency {}) waited for a request to a queue that it consumes"


class Outer:
    """An app whose job `outer` requests `inner`, and the errors that it got."""

    def __init__(
        self,
        url: str,
        *,
        inner_queue: str = "inner",
        timeout: float = 1.0,
        publishing: Sequence[Publishing] = (),
    ) -> None:
        self.app = App(
            "tests", settings=app_at(url).settings, retry=Retry(attempts=1), publishing=publishing
        )
        self.errors: list[ReplyTimeout] = []
        self.answers: list[int] = []
        self.timeout = timeout

        @self.app.job(queue=inner_queue)
        async def inner(n: int) -> int:
            return n + 1

        @self.app.job(queue="outer")
        async def outer(n: int) -> None:
            try:
                self.answers.append(await self.app.request(inner.message(n), timeout=self.timeout))
            except ReplyTimeout as error:
                self.errors.append(error)

        self.inner: Any = inner
        self.outer: Any = outer

    @property
    def ended(self) -> int:
        return len(self.errors) + len(self.answers)


def warnings(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [record for record in caplog.records if record.getMessage() == WARNING]


async def test_a_worker_whose_slots_all_wait_for_requests_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning for a worker; each error that follows names the cause and the fix."""
    async with Broker() as broker:
        o = Outer(broker.url)
        async with o.app.lifespan(), working(o.app, concurrency=2):
            await o.app.later_many([o.outer.message(n) for n in range(2)])
            await until(lambda: o.ended == 2, "both requests have ended")
            await o.app.later_many([o.outer.message(n) for n in range(2)])
            await until(lambda: o.ended == 4, "two more have ended")
    assert len(o.errors) >= 2
    assert HINT.format(2) in str(o.errors[0])
    assert "raise --concurrency" in str(o.errors[0])
    assert (o.errors[0].job, o.errors[0].timeout, o.errors[0].sent) == (o.inner.name, 1.0, True)
    [warned] = warnings(caplog)
    assert warned.levelno == logging.WARNING
    assert (warned.requested, warned.request_queue, warned.concurrency) == (
        o.inner.name,
        "inner",
        2,
    )
    assert "--concurrency" in warned.fix


async def test_with_a_slot_left_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    """The requested job runs in it."""
    async with Broker() as broker:
        o = Outer(broker.url, timeout=20)
        async with o.app.lifespan(), working(o.app, concurrency=2):
            await o.outer.later(1)
            await until(lambda: o.answers == [2], "it was answered")
    assert warnings(caplog) == []


async def test_requests_to_a_queue_of_another_worker_may_fill_every_slot(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That worker answers; and if it does not, this one is not the cause."""
    async with Broker() as broker:
        o = Outer(broker.url, inner_queue="elsewhere", timeout=0.2)
        async with o.app.lifespan():
            async with working(o.app, "elsewhere"):
                pass
            async with working(o.app, "outer", concurrency=1):
                await o.outer.later(1)
                await until(lambda: o.ended == 1, "it has ended")
    assert warnings(caplog) == []
    assert "every slot" not in str(o.errors[0])


async def test_a_job_with_many_requests_counts_once(caplog: pytest.LogCaptureFixture) -> None:
    """Two requests of one job leave a slot of two free, and both are answered."""
    async with Broker() as broker:
        o = Outer(broker.url)
        answers: list[list[int]] = []

        @o.app.job(queue="outer")
        async def both() -> None:
            requests = (o.app.request(o.inner.message(n), timeout=20) for n in (1, 2))
            answers.append(await asyncio.gather(*requests))

        async with o.app.lifespan(), working(o.app, concurrency=2):
            await both.later()
            await until(lambda: answers == [[2, 3]], "both were answered")
    assert warnings(caplog) == []


async def test_a_task_that_outlives_its_job_has_no_slot(caplog: pytest.LogCaptureFixture) -> None:
    """Its request is answered in the slot that the job has left."""
    async with Broker() as broker:
        o = Outer(broker.url)
        left: list[asyncio.Task[int]] = []
        go = asyncio.Event()

        async def ask_later() -> int:
            await go.wait()
            return await o.app.request(o.inner.message(1), timeout=20)

        @o.app.job(queue="outer")
        async def leaves() -> None:
            left.append(asyncio.create_task(ask_later()))

        async with o.app.lifespan(), working(o.app, concurrency=1) as worker:
            await leaves.later()
            await until(lambda: left and not worker.snapshot().running, "the job has ended")
            go.set()
            assert await left[0] == 2
    assert warnings(caplog) == []


async def test_blocking_requests_in_threads_are_named_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A plain `def` waits in its thread, and holds its slot as well."""
    with Broker.in_thread() as broker:  # this thread waits for it while the client opens
        o = Outer(broker.url)
        with o.app.blocking() as client:

            @o.app.job(queue="outer")
            def threaded(n: int) -> None:
                try:
                    client.request(o.inner.message(n), timeout=1)
                except ReplyTimeout as error:
                    o.errors.append(error)

            async with o.app.lifespan(), working(o.app, concurrency=1):
                handle: JobHandle[None] = await threaded.later(1)
                await until(lambda: o.ended == 1, f"{handle.id} has ended")
    assert HINT.format(1) in str(o.errors[0])
    assert len(warnings(caplog)) == 1


async def test_with_publishing_middleware_it_is_the_same(caplog: pytest.LogCaptureFixture) -> None:
    """A request that goes through a chain is one all the same."""
    async with Broker() as broker:

        async def pass_on(send: Any, message: Any) -> Any:
            return await send(message)

        o = Outer(broker.url, publishing=[pass_on])
        async with o.app.lifespan(), working(o.app, concurrency=1):
            await o.outer.later(1)
            await until(lambda: o.ended == 1, "it has ended")
    assert HINT.format(1) in str(o.errors[0])
    assert len(warnings(caplog)) == 1


async def test_a_request_to_a_queue_by_its_name_is_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`app.request("queue", body)` from a job of the same queue."""
    async with Broker() as broker:
        o = Outer(broker.url)

        @o.app.job(queue="outer")
        async def by_name(ctx: Context) -> None:
            try:
                await o.app.request("inner", {"n": 1}, timeout=1)
            except ReplyTimeout as error:
                o.errors.append(error)

        async with o.app.lifespan(), working(o.app, concurrency=1):
            await by_name.later()
            await until(lambda: o.ended == 1, "it has ended")
    assert HINT.format(1) in str(o.errors[0])
    assert len(warnings(caplog)) == 1


async def test_a_queue_of_that_name_on_another_broker_is_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The job asks elsewhere, where this worker consumes nothing."""
    async with Broker() as broker, Broker() as other:
        o, there = Outer(broker.url), Outer(other.url)

        @o.app.job(queue="outer")
        async def asks_there() -> None:
            o.answers.append(await there.app.request(there.inner.message(1), timeout=20))

        async with (
            o.app.lifespan(),
            there.app.lifespan(),
            working(there.app),
            working(o.app, concurrency=1),
        ):
            await asks_there.later()
            await until(lambda: o.answers == [2], "it was answered there")
    assert warnings(caplog) == []
