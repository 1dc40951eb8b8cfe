"""Requests on real brokers: every one ends, in its own result or in the error that says why not."""

import asyncio
import logging
import random
import threading
import time
from typing import Any

import aio_pika
import pytest
from aio_pika import DeliveryMode
from pydantic import BaseModel

from amqpjobs import App, Context, Message, Queue, Reject, Retry, Snooze
from amqpjobs.client.deadletters.selection import Selection
from amqpjobs.client.replies import Replies
from amqpjobs.errors import (
    ConfigurationError,
    InvalidResult,
    JobFailed,
    MessageTooLarge,
    NoWorker,
    ReplyLost,
    ReplyTimeout,
    Unroutable,
)
from amqpjobs.worker.worker import Worker
from tests.support import asked_jobs
from tests.support.amqp import close_connections, count, drain, publish, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working


def replies_of(app: App) -> Replies:
    """What waits for replies in this process."""
    assert app.client.opened is not None
    return app.client.opened.replies


async def listening(worker: Worker) -> None:
    """Wait until it can be told to cancel."""
    async with asyncio.timeout(20):
        await worker._consuming.control.ready()


class OutOfStock(Exception):
    """Of this module, so that the caller's app can know it."""


class Pair(Exception):
    """Cannot be made of a message alone."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one, other)


class Size(BaseModel):
    """A result that is more than JSON's own types."""

    width: int


async def test_a_request_returns_what_the_handler_returned(broker: VirtualHost) -> None:
    """In its own type, for every kind of job."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def measure(width: int) -> Size:
        return Size(width=width)

    @app.job(queue="work")
    def in_thread(text: str) -> str:
        return text.upper()

    class Album(BaseModel):
        name: str

        @app.job(queue="work")
        async def shout(self, times: int) -> str:
            return self.name * times

    async with app.lifespan(), working(app):
        assert await measure.request(3) == Size(width=3)
        assert await in_thread.request("a") == "A"
        assert await Album(name="x").shout.request(3) == "xxx"
        assert await app.request(measure.message(4)) == Size(width=4)
        assert replies_of(app).pending == 0


async def test_a_cpu_job_answers(broker: VirtualHost) -> None:
    """From its process, and with the error that was raised there."""
    app = asked_jobs.app_at(broker.url)
    async with app.lifespan(), working(app):
        assert await asked_jobs.square.request(7) == 49
        with pytest.raises(JobFailed, match="not seven") as caught:
            await asked_jobs.refuse.request(7)
        assert caught.value.error == "ValueError"


async def test_a_thousand_at_once_each_get_their_own_answer(broker: VirtualHost) -> None:
    """Answers come in any order."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def double(n: int, pause: float) -> int:
        await asyncio.sleep(pause)
        return n * 2

    async with app.lifespan(), working(app, concurrency=100):
        pauses = [random.uniform(0, 0.05) for _ in range(1000)]
        results = await asyncio.gather(*(double.request(n, p) for n, p in enumerate(pauses)))
        assert results == [n * 2 for n in range(1000)]
        assert (replies_of(app).pending, replies_of(app).unknown) == (0, 0)


async def test_a_failure_comes_with_its_name_and_is_no_dead_letter(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Who asked knows of it: that is enough."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def sell(n: int) -> int:
        if n == 0:
            raise OutOfStock("none left")
        raise Reject("not for sale")

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app), stranger(broker.url) as channel:
            with pytest.raises(JobFailed, match="none left") as caught:
                await sell.request(0)
            error = caught.value
            assert error.error == f"{__name__}.OutOfStock"
            assert (error.job, error.attempt) == (sell.name, 1)
            assert error.job_id
            assert sell.name in error.__notes__[0]
            with pytest.raises(JobFailed, match="not for sale") as caught:
                await sell.request(1)
            assert caught.value.error == "rejected"
            await until(lambda: _line(caplog, "job rejected"), "both are logged")
            assert await count(channel, "work.dead") == 0
    line = _line(caplog, "job failed")
    assert line is not None
    assert (line.answered, line.reason, line.levelname) == (True, "none left", "WARNING")
    assert line.exc_info is None


def _line(caplog: pytest.LogCaptureFixture, message: str) -> Any:
    return next((r for r in caplog.records if r.getMessage() == message), None)


async def test_a_registered_exception_comes_as_itself(broker: VirtualHost) -> None:
    """Its `JobFailed` is the cause; a class that takes more than a message is not made."""
    asked = app_at(broker.url)

    @asked.job(queue="work")
    async def sell(n: int) -> int:
        raise OutOfStock("none left") if n == 0 else Pair("a", "b")

    asker = App("asker", settings=asked.settings, exceptions=[OutOfStock, Pair])

    @asker.job(queue="work", name=sell.name)
    async def stand_in(n: int) -> int:
        return n

    async with asker.lifespan(), working(asked):
        with pytest.raises(OutOfStock, match="^none left$") as caught:
            await stand_in.request(0)
        assert isinstance(caught.value.__cause__, JobFailed)
        with pytest.raises(JobFailed) as other:
            await stand_in.request(1)
        assert other.value.error == f"{__name__}.Pair"


async def test_a_timeout_leaves_nothing_behind(broker: VirtualHost) -> None:
    """What was not started by then is not run, and a late answer is nobody's."""
    app = app_at(broker.url)
    ran: list[int] = []
    go = asyncio.Event()

    @app.job(queue="work")
    async def slow(n: int) -> int:
        ran.append(n)
        await go.wait()
        return n

    async with app.lifespan():
        with pytest.raises(ReplyTimeout, match=r"within 0\.3 s; it was sent") as caught:
            await slow.with_options(timeout=0.3).request(1)
        assert (caught.value.job, caught.value.timeout, caught.value.sent) == (slow.name, 0.3, True)
        assert replies_of(app).pending == 0
        async with working(app), stranger(broker.url) as channel:
            with pytest.raises(ReplyTimeout):
                await app.request(slow.message(2), timeout=1)
            go.set()
            assert await slow.request(3) == 3
            assert ran == [2, 3]  # the first was expired, and acked
            assert await count(channel, "work.dead") == 0
        assert replies_of(app).pending == 0


async def test_a_late_answer_is_dropped_and_counted(broker: VirtualHost) -> None:
    """It finds nobody, and not the next one who asks either. Only strangers answer so late: our
    workers look at the deadline."""
    app = app_at(broker.url)
    async with app.lifespan(), stranger(broker.url) as channel:
        await channel.declare_queue("service", durable=True)
        with pytest.raises(ReplyTimeout):
            asking = asyncio.create_task(app.request("service", {"n": 1}, timeout=2))
            question = await take(broker.url, "service")
            await asking
        assert question.reply_to
        await publish(channel, question.reply_to, b"1", correlation_id=question.correlation_id)
        await publish(channel, question.reply_to, b"1", correlation_id="made-up")
        await publish(channel, question.reply_to, b"1")
        await until(lambda: replies_of(app).unknown == 3, "all three are counted")


async def test_no_queue_is_an_error_at_once(broker: VirtualHost) -> None:
    """Mandatory: RabbitMQ returns what nobody would ever see."""
    app = app_at(broker.url)
    async with app.lifespan():
        began = time.monotonic()
        with pytest.raises(Unroutable, match="nowhere"):
            await app.request("nowhere", 1)
        assert time.monotonic() - began < 10
        assert replies_of(app).pending == 0


async def test_a_request_cannot_be_put_off(broker: VirtualHost) -> None:
    """It waits for an answer; and what is too large does not leave."""
    app = app_at(broker.url, max_message_size=100)

    @app.job(queue="work")
    async def job(text: str) -> str:
        return text

    async with app.lifespan():
        with pytest.raises(ConfigurationError, match="later"):
            await job.with_options(delay=1).request("")
        for seconds in (0, -1, 5_000_000):
            with pytest.raises(ConfigurationError, match="above 0"):
                await app.request(job.message(""), timeout=seconds)
        with pytest.raises(MessageTooLarge):
            await job.request("x" * 200)
        with pytest.raises(MessageTooLarge):
            await app.request("work", b"x" * 200)
        assert replies_of(app).pending == 0


async def test_priority_and_expiry_hold_for_requests(broker: VirtualHost) -> None:
    """The options of `later` that make sense."""
    app = app_at(broker.url)
    lanes = Queue("lanes", priorities={"high": 2, "low": 1})

    @app.job(queue=lanes)
    async def job(ctx: Context, n: int) -> int:
        return n

    async with app.lifespan():
        low = asyncio.create_task(job.with_options(priority="high", expires=0.001).request(1))
        async with stranger(broker.url) as channel:

            async def there() -> bool:
                return await count(channel, "lanes.high") == 1

            await until(there, "it waits in its lane")
            lane = await channel.get_queue("lanes.high")
            waits = await lane.get(no_ack=True)
            assert waits is not None
        assert waits.delivery_mode == DeliveryMode.NOT_PERSISTENT
        low.cancel()
        async with working(app):
            assert await job.with_options(priority="high").request(2) == 2


async def test_retries_happen_while_they_fit(broker: VirtualHost) -> None:
    """The asker waits over them; the last failure comes at once when the next would be too late."""
    app = app_at(broker.url)
    attempts: list[int] = []

    @app.job(queue="work", retry=Retry(attempts=3, first=0.05, jitter=False))
    async def flaky(ctx: Context, n: int) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise OutOfStock("not yet")
        return n

    @app.job(queue="work", retry=Retry(attempts=3, first=60, limit=60, jitter=False))
    async def patient() -> None:
        raise OutOfStock("in a minute, perhaps")

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        assert await flaky.request(1) == 1
        assert attempts == [1, 2, 3]
        began = time.monotonic()
        with pytest.raises(JobFailed, match="in a minute") as caught:
            await patient.with_options(timeout=15).request()
        assert caught.value.attempt == 1
        assert time.monotonic() - began < 10
        assert await count(channel, "work.dead") == 0


async def test_a_snooze_beyond_the_deadline_is_a_failure(broker: VirtualHost) -> None:
    """Nobody would wait for it any more; within the deadline it is waited for."""
    app = app_at(broker.url)
    seen: list[int] = []

    @app.job(queue="work")
    async def busy(seconds: float) -> str:
        seen.append(1)
        if len(seen) == 1 or seconds > 1:
            raise Snooze(seconds)
        return "done"

    async with app.lifespan(), working(app):
        assert await busy.request(0.1) == "done"
        with pytest.raises(JobFailed, match="after the caller"):
            await busy.with_options(timeout=20).request(300)


async def test_what_a_job_asks_has_no_more_time_than_the_job(broker: VirtualHost) -> None:
    """The deadline goes on; what it enqueues is not bound by it."""
    app = app_at(broker.url)
    seen: dict[str, Any] = {}
    later_ran = asyncio.Event()

    @app.job(queue="inner")
    async def inner(ctx: Context) -> float:
        assert ctx.deadline is not None
        return ctx.deadline

    @app.job(queue="inner")
    async def loose(ctx: Context) -> None:
        seen["loose"] = ctx.deadline
        seen["trace"] = ctx.trace_parent
        later_ran.set()

    @app.job(queue="outer")
    async def outer(ctx: Context) -> tuple[float, float]:
        await loose.later()
        assert ctx.deadline is not None
        return ctx.deadline, await inner.with_options(timeout=1000).request()

    @app.job(queue="outer")
    async def too_late(ctx: Context) -> str:
        assert ctx.deadline is not None
        seen["waiting"] = True
        await asyncio.sleep(max(0.0, ctx.deadline - time.time()))
        with pytest.raises(ReplyTimeout, match="is over") as caught:
            await inner.request()
        seen["sent"] = caught.value.sent
        return "never seen"

    async with app.lifespan(), working(app):
        own, of_inner = await outer.with_options(timeout=20).request()
        assert own - 1 < of_inner <= own + 0.01
        await later_ran.wait()
        assert seen["loose"] is None
        with pytest.raises(ReplyTimeout):
            await too_late.with_options(timeout=1).request()
        await until(lambda: "sent" in seen, "the inner request ended at once")
        assert seen["sent"] is False


async def test_the_deadline_of_what_nobody_asked_for_is_for_its_start(broker: VirtualHost) -> None:
    """`expires` is over when a job runs: what it asks has its own time."""
    app = app_at(broker.url)
    answers: list[int] = []

    @app.job(queue="inner")
    async def inner() -> int:
        return 1

    @app.job(queue="outer")
    async def outer(ctx: Context) -> None:
        assert ctx.deadline is not None
        await asyncio.sleep(max(0.0, ctx.deadline - time.time()))
        answers.append(await inner.request())

    async with app.lifespan(), working(app):
        await outer.with_options(expires=2).later()
        await until(lambda: answers == [1], "it was answered")


async def test_an_asker_that_is_gone_costs_nothing(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that is done is acked; one that failed is a dead letter, since nobody knows of it."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        if n == 2:
            raise ValueError("nobody heard it")
        return n

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), stranger(broker.url) as channel, working(app) as worker:
            for body in (b"1", b"2"):
                await publish(channel, "work", body, type=job.name, reply_to="gone")
            letter = await take(broker.url, "work.dead")
            assert letter.body == b"2"
            await until(lambda: _line(caplog, "job done"), "it is acked")
            assert worker._consuming.replying.gone == 2
    assert len([r for r in caplog.records if vars(r).get("reason") == "the caller is gone"]) == 2


async def test_a_result_that_cannot_be_sent_is_told_and_the_job_is_done(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Running it again would give the same."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return "not a number"  # type: ignore[return-value]

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app), stranger(broker.url) as channel:
            with pytest.raises(JobFailed, match="does not allow") as caught:
                await job.request(1)
            assert caught.value.error == "amqpjobs.errors.InvalidResult"
            await until(lambda: _line(caplog, "job done"), "it is done")
            assert await count(channel, "work.dead") == 0


async def test_what_does_not_fit_is_told_to_who_asked(broker: VirtualHost) -> None:
    """A stranger's mistake, and headers that cannot be used."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        with pytest.raises(JobFailed, match="valid integer") as caught:
            await app.request("work", "x", type=job.name)
        assert (caught.value.error, caught.value.job) == ("amqpjobs.errors.DecodeError", job.name)
        mine = await channel.declare_queue(exclusive=True)
        await publish(
            channel, "work", b"1", type=job.name, reply_to=mine.name, correlation_id="c",
            headers={"amqpjobs-attempt": "many"},
        )  # fmt: skip
        answer: Any = await until(lambda: mine.get(fail=False), "the answer")
        assert (answer.type, answer.correlation_id) == ("amqpjobs.error", "c")
        assert await count(channel, "work.dead") == 0


async def test_a_job_that_the_worker_does_not_know_fails_at_once(broker: VirtualHost) -> None:
    """As between two releases. It is not parked: it would run when nobody waits for it any more."""
    app, older = app_at(broker.url), app_at(broker.url)

    @app.job(queue="work")
    async def newer(n: int) -> int:
        return n

    @older.job(queue="work")
    async def other(n: int) -> int:
        return n

    async with working(older), app.lifespan():
        with pytest.raises(JobFailed, match="no job of this name here: 'newer'") as failed:
            await newer.with_options(timeout=30).request(1)
        assert failed.value.error == "unknown-job"
        await newer.later(2)  # nobody waits for this one
        async with stranger(broker.url) as channel:
            await until(lambda: count(channel, "work.parked"), "the other one is parked")
            assert await count(channel, "work.parked") == 1


async def test_a_queue_that_nobody_consumes_fails_before_the_timeout(broker: VirtualHost) -> None:
    """And one whose job takes long does not."""
    app = app_at(broker.url, no_worker_timeout=1.5)
    go_on = asyncio.Event()

    @app.job(queue="work")
    async def job(n: int) -> int:
        await go_on.wait()
        return n

    @app.job(queue="nobody")
    async def lonely(n: int) -> int:
        return n

    async with app.lifespan(), working(app, "work"):
        asking = asyncio.ensure_future(job.with_options(timeout=60).request(1))
        with pytest.raises(NoWorker, match="no worker consumes the queue 'nobody'") as gone:
            await lonely.with_options(timeout=60).request(2)
        assert gone.value.sent
        go_on.set()
        assert await asking == 1
        assert replies_of(app).pending == 0


async def test_no_answer_goes_to_a_queue_of_jobs(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise a stranger's `reply_to` would make a worker enqueue jobs."""
    app = app_at(broker.url)
    seen: list[int] = []

    @app.job(queue="work")
    async def job(n: int) -> int:
        seen.append(n)
        return n + 1

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        for target in ("work", "work.dead", "amqpjobs.delay.unroutable"):
            await publish(channel, "work", b"1", type=job.name, reply_to=target)
        await until(lambda: len(seen) == 3, "all ran")
        assert await job.request(5) == 6
        for target in ("work", "work.dead", "amqpjobs.delay.unroutable"):
            assert await count(channel, target) == 0
    assert seen == [1, 1, 1, 5]
    reasons = [getattr(r, "reason", None) for r in caplog.records]
    assert reasons.count("reply_to names a queue of jobs") == 3


async def test_cancelling_the_caller_cancels_the_job(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """An async job ends where it awaits; it is acked, and counted as cancelled."""
    app = app_at(broker.url)
    started, cancelled = asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def job() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app) as worker, stranger(broker.url) as channel:
            await listening(worker)
            asking = asyncio.create_task(job.request())
            await started.wait()
            asking.cancel()
            async with asyncio.timeout(20):
                await cancelled.wait()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await until(lambda: _line(caplog, "job cancelled"), "it is logged")
            assert await count(channel, "work.dead") == 0
            assert replies_of(app).pending == 0
        async with stranger(broker.url) as channel:
            assert await count(channel, "work") == 0


async def test_a_thread_is_left_alone_and_a_process_killed(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the worker is told to stop."""
    app = asked_jobs.app_at(broker.url)
    asked_jobs.started.clear()
    asked_jobs.go.clear()
    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app) as worker:
            await listening(worker)
            asking = asyncio.create_task(asked_jobs.in_thread.request())
            await until(asked_jobs.started.is_set, "the thread runs")
            asking.cancel()
            await until(lambda: _line(caplog, "job cancelled"), "the thread is abandoned")
            caplog.clear()
            asked_jobs.go.set()
            asking = asyncio.create_task(asked_jobs.forever.request())
            await until(lambda: worker._consuming.running, "the process is asked")
            # Its process may still be starting: it is killed all the same.
            asking.cancel()
            await until(lambda: _line(caplog, "job cancelled"), "the process is killed")
            assert await asked_jobs.square.request(3) == 9


async def test_what_was_not_started_is_cancelled_in_the_queue(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """One of two slots' worth waits in the worker: it never runs."""
    app = app_at(broker.url)
    ran: list[int] = []
    started, go = asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def job(n: int) -> int:
        ran.append(n)
        started.set()
        await go.wait()
        return n

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app, concurrency=1, prefetch=2) as worker:
            await listening(worker)
            first = asyncio.create_task(job.request(1))
            await started.wait()
            second = asyncio.create_task(job.request(2))
            await until(lambda: worker.snapshot().waiting == 1, "it waits behind the first")
            second.cancel()
            await until(
                lambda: "1 requests" in repr(worker._consuming.control), "the worker was told"
            )
            go.set()
            assert await first == 1
            await until(lambda: _line(caplog, "job cancelled"), "it is cancelled")
    assert ran == [1]


async def test_only_the_asker_can_cancel(broker: VirtualHost) -> None:
    """Id, correlation id and reply address must all be right."""
    app = app_at(broker.url)
    started, go = asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def job(ctx: Context) -> int:
        properties = ctx.message
        async with stranger(broker.url) as channel:
            control = await channel.get_exchange("amqpjobs.control")
            right = {
                "message_id": properties.message_id,
                "correlation_id": properties.correlation_id,
                "reply_to": properties.reply_to,
            }
            for name in right:
                wrong = right | {name: "wrong"}
                await control.publish(
                    aio_pika.Message(b"", type="amqpjobs.cancel", **wrong), "work"
                )
            await control.publish(aio_pika.Message(b"", type="other", **right), "work")
        started.set()
        await go.wait()
        return 1

    async with app.lifespan(), working(app) as worker:
        await listening(worker)
        asking = asyncio.create_task(job.request())
        await started.wait()
        await until(
            lambda: "3 requests" in repr(worker._consuming.control), "three were told, in vain"
        )
        go.set()
        assert await asking == 1


async def test_a_lost_connection_fails_what_waits_and_then_works_again(
    broker: VirtualHost,
) -> None:
    """At once, with `ReplyLost`; the reply queue is made again."""
    app = app_at(broker.url)
    started = 0
    go = asyncio.Event()

    @app.job(queue="work")
    async def job(n: int) -> int:
        nonlocal started
        started += 1
        await go.wait()
        return n

    async with app.lifespan(), working(app, concurrency=50):
        asking = [asyncio.create_task(job.request(n)) for n in range(20)]
        await until(lambda: started == 20, "all run")
        first = replies_of(app).queue
        await until(lambda: close_connections(broker, "publish") == 1, "the connection is cut")
        results = await asyncio.gather(*asking, return_exceptions=True)
        assert all(isinstance(r, ReplyLost) and r.sent for r in results), results
        assert replies_of(app).pending == 0
        go.set()
        assert await job.request(7) == 7
        assert replies_of(app).queue not in (None, first)


async def test_closing_fails_what_waits(broker: VirtualHost) -> None:
    """Nobody hangs on an app that is closed."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with app.lifespan():
        asking = asyncio.create_task(job.request(1))
        await until(lambda: replies_of(app).pending == 1, "it waits")
    with pytest.raises(ReplyLost, match="closed here"):
        await asking


async def _passed_on(call_next: Any, message: Message[Any]) -> Any:
    return await call_next(message)


@pytest.mark.parametrize("publishing", [(), (_passed_on,)], ids=["bare", "middleware"])
async def test_without_a_broker_a_request_ends_in_time(publishing: Any) -> None:
    """Nobody was asked, and the error says so: it was not the middleware."""
    app = app_at("amqp://guest:guest@127.0.0.1:1/", publishing=publishing)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with app.lifespan():
        with pytest.raises(
            ReplyTimeout, match="was not asked within 0.5 s: no connection"
        ) as caught:
            await job.with_options(timeout=0.5).request(1)
        assert caught.value.sent is False
        assert replies_of(app).pending == 0


def test_synchronous_code_can_ask(broker: VirtualHost) -> None:
    """From many threads at once."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def double(n: int) -> int:
        if n < 0:
            raise ValueError("below zero")
        return n * 2

    results: dict[int, int] = {}
    ready, over = threading.Event(), threading.Event()

    async def work() -> None:
        async with working(app):
            ready.set()
            await asyncio.to_thread(over.wait)

    worker = threading.Thread(target=asyncio.run, args=(work(),))
    worker.start()
    try:
        assert ready.wait(30)
        with app.blocking() as client:

            def ask(n: int) -> None:
                results[n] = client.request(double.message(n), timeout=20)

            threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert results == {n: n * 2 for n in range(10)}
            with pytest.raises(JobFailed, match="below zero"):
                client.request(double.message(-1))
    finally:
        over.set()
        worker.join()


async def test_middleware_is_around_the_sending_of_a_request(broker: VirtualHost) -> None:
    """It gets the message and returns the handle; one that sends nothing is found out."""
    app = app_at(broker.url)
    handles: list[Any] = []
    mode = "pass"

    async def watching(call_next: Any, message: Message[Any]) -> Any:
        if mode == "raise":
            await call_next(message)
            raise ValueError("after sending")
        if mode == "drop":
            return None
        handle = await call_next(message)
        handles.append(handle)
        return handle

    watched = App("watched", settings=app.settings, publishing=[watching])

    @watched.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with watched.lifespan(), working(watched):
        assert await job.request(3) == 3
        assert [(h.job, h.queue) for h in handles] == [(job.name, "work")]
        mode = "drop"
        with pytest.raises(ConfigurationError, match="did not send"):
            await job.request(3)
        mode = "raise"
        with pytest.raises(ValueError, match="after sending"):
            await job.request(3)
        assert replies_of(watched).pending == 0


async def test_services_that_are_not_ours(broker: VirtualHost) -> None:
    """Bytes as they are, all else as JSON; what comes back is JSON, a type, or bytes."""
    app = app_at(broker.url)
    seen: list[Any] = []

    async with app.lifespan(), stranger(broker.url) as channel:
        await channel.set_qos(10)
        service = await channel.declare_queue("service", durable=True)

        async def serve(message: Any) -> None:
            seen.append(message)
            kind = message.type
            await message.ack()
            properties = {"correlation_id": message.correlation_id}
            if kind == "bytes":
                properties["content_type"] = "image/png"
            elif kind == "plain":
                properties["content_type"] = None
            elif kind == "error":
                properties["type"] = "amqpjobs.error"
            await publish(channel, message.reply_to, message.body, **properties)

        await service.consume(serve)
        assert await app.request("service", {"a": 1}) == {"a": 1}
        assert await app.request("service", {"width": 2}, returns=Size) == Size(width=2)
        assert await app.request("service", b"\xff", type="bytes") == b"\xff"
        assert await app.request("service", b"\xff", type="plain") == b"\xff"
        assert await app.request("service", [1], type="plain") == [1]
        assert await app.request("service", [1], returns=bytes) == b"[1]"
        with pytest.raises(InvalidResult, match="width"):
            await app.request("service", {"width": "x"}, returns=Size)
        with pytest.raises(InvalidResult, match="not JSON"):
            await app.request("service", b"{")
        with pytest.raises(JobFailed, match="does not say why"):
            await app.request("service", {"error": 1}, type="error")
        assert seen[0].content_type == "application/json"
        assert seen[0].expiration
        assert seen[0].delivery_mode == DeliveryMode.NOT_PERSISTENT
        assert seen[2].content_type == "application/octet-stream"
        assert replies_of(app).pending == 0


async def test_what_waited_too_long_for_a_service_is_not_there_any_more(
    broker: VirtualHost,
) -> None:
    """It does not know our header, so RabbitMQ drops it."""
    app = app_at(broker.url)
    async with app.lifespan(), stranger(broker.url) as channel:
        await channel.declare_queue("service", durable=True)
        with pytest.raises(ReplyTimeout):
            await app.request("service", 1, timeout=0.2)

        async def gone() -> bool:
            return await count(channel, "service") == 0

        await until(gone, "it has expired")


async def test_a_suspect_answers_from_quarantine(broker: VirtualHost) -> None:
    """Delivered before, on a classic queue: it runs by itself, and its result arrives."""
    app = asked_jobs.app_at(broker.url)
    async with app.lifespan():
        async with app.lifespan():
            pass
        asking = asyncio.create_task(asked_jobs.suspect.request(4))
        unpassed = asyncio.create_task(asked_jobs.suspect_of_anything.request())
        async with stranger(broker.url) as channel:
            queue = await channel.get_queue("asked.classic", ensure=False)

            async def both() -> bool:
                return await count(channel, "asked.classic") == 2

            await until(both, "both wait")
            # A consumer that dies with them: RabbitMQ marks them as redelivered.
            await queue.get()
            await queue.get()
        async with working(app):
            pid, result = await asking
            assert result == 16
            assert pid != asked_jobs.own_pid()
            with pytest.raises(JobFailed, match="cannot become JSON"):
                await unpassed


async def test_a_replayed_dead_letter_answers_nobody(broker: VirtualHost) -> None:
    """Who asked has long gone."""
    app = app_at(broker.url)
    ok = False
    done = asyncio.Event()

    @app.job(queue="work")
    async def job(ctx: Context, n: int) -> int:
        if not ok:
            raise ValueError
        assert (ctx.message.reply_to, ctx.message.correlation_id, ctx.deadline) == (
            None,
            None,
            None,
        )
        done.set()
        return n

    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await publish(
            channel, "work", b"1", type=job.name, reply_to="gone", correlation_id="c",
            headers={"amqpjobs-deadline": int((time.time() + 60) * 1000)},
        )  # fmt: skip

        async def dead() -> bool:
            return await count(channel, "work.dead") == 1

        await until(dead, "it is a dead letter")
        ok = True
        await app.dead_letters().replay(Selection())
        async with asyncio.timeout(20):
            await done.wait()


async def test_without_permission_for_a_reply_queue_the_error_says_so(broker: VirtualHost) -> None:
    """At once, and with the fix; a worker without it works on, and cannot be told to cancel."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> int:
        return n

    async with working(app):
        pass
    name = "no-" + broker.name
    broker.server.add_user(name, "secret")
    try:
        broker.server.set_permissions(name, broker.name, configure="^work.*|^amqpjobs.*")
        _, _, place = broker.url.rpartition("@")
        limited = App(
            "limited",
            settings=app_at(f"amqp://{name}:secret@{place}").settings,
        )

        @limited.job(queue="work", name=job.name)
        async def stand_in(n: int) -> int:
            return n

        async with limited.lifespan(), working(limited):
            for _ in range(2):
                with pytest.raises(ConfigurationError, match=r"amq\\.gen"):
                    await stand_in.request(1)
            # Somebody who may ask is answered by a worker that could not be told to cancel.
            async with app.lifespan():
                assert await job.request(2) == 2
    finally:
        broker.server.delete_user(name)
        await drain(broker.url, "work")
