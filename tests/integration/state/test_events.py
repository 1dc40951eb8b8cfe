"""The events that a worker and its publisher tell, on the broker."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from amqpjobs import Context, Job, Reject, RetryAfter, Snooze
from amqpjobs.broker.rabbitmq import event_publication
from amqpjobs.client.client import registry_of
from amqpjobs.errors import JobFailed
from amqpjobs.jobs.job import definition_of
from tests.support.amqp import stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.waiting import until
from tests.support.workers import app_at, working


class Heard:
    """What a foreign client hears on the exchange."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.messages: list[Any] = []

    def of(self, job_id: str) -> list[dict[str, Any]]:
        return sorted(
            (e for e in self.events if e["id"] == job_id),
            key=lambda e: (e["epoch"], e["attempt"], e["sequence"]),
        )

    def states(self, job_id: str) -> list[str]:
        return [event["state"] for event in self.of(job_id)]

    async def ended(self, job_id: str, state: str) -> list[dict[str, Any]]:
        await until(lambda: state in self.states(job_id), f"{state} in {self.events}")
        return self.of(job_id)


@asynccontextmanager
async def hearing(url: str) -> AsyncIterator[Heard]:
    """A stranger with a queue of its own, bound to all events."""
    heard = Heard()
    async with stranger(url) as channel:
        exchange = await channel.declare_exchange("amqpjobs.events", "topic", durable=True)
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange, "#")

        async def take(message: Any) -> None:
            heard.messages.append(message)
            heard.events += json.loads(message.body)

        await queue.consume(take, no_ack=True)
        yield heard


async def test_a_job_is_queued_started_and_succeeds(broker: VirtualHost) -> None:
    """In this order, with who, where and when; one message may hold all of it."""
    app = app_at(broker.url)
    go = asyncio.Event()

    @app.job(queue="q")
    async def work(n: int) -> int:
        await go.wait()
        return n

    async with hearing(broker.url) as heard, working(app):
        handle = await work.later(1)
        await heard.ended(handle.id, "started")
        go.set()
        events = await heard.ended(handle.id, "done")
    assert heard.states(handle.id) == ["queued", "started", "done"]
    assert [e["attempt"] for e in events] == [0, 1, 1]
    assert {(e["job"], e["queue"], e["epoch"]) for e in events} == {(work.name, "q", 0)}
    assert events[1]["started"] == pytest.approx(events[2]["started"], abs=0.001)
    assert events[0]["sequence"] / 1e6 <= events[1]["started"] <= events[1]["sequence"] / 1e6
    assert "worker" not in events[0]
    assert events[2]["worker"]
    assert "result" not in events[2]
    message = heard.messages[0]
    assert (message.type, message.content_type, message.routing_key) == (
        "amqpjobs.events", "application/json", "tests",
    )  # fmt: skip
    assert message.delivery_mode == 1


async def test_a_job_that_is_over_at_once_is_one_event(broker_43: VirtualHost) -> None:
    """Its end says when it began: most jobs are short, and cost no more than that."""
    app = app_at(broker_43.url)

    @app.job(queue="q")
    async def work() -> None: ...

    async with hearing(broker_43.url) as heard, working(app):
        handles = await app.later_many([work.message() for _ in range(200)])
        for handle in handles:
            await heard.ended(handle.id, "done")
    own = [e for e in heard.events if e["state"] != "queued"]
    assert len(own) < 300
    assert all(e["started"] <= e["sequence"] / 1e6 for e in own)
    assert len(heard.messages) < 50


async def test_every_ending_has_its_event(broker: VirtualHost) -> None:
    """With the error, or when it runs again."""
    app = app_at(broker.url)
    again = asyncio.Event()

    @app.job(queue="q")
    async def work(ctx: Context, how: str) -> None:
        if how == "fail":
            raise ValueError("no such thing")
        if how == "reject":
            raise Reject("not today")
        if how == "snooze" and not ctx.last_progress:
            await ctx.progress(0.5, "half")
            raise Snooze(0.1)
        if how == "snooze":
            assert ctx.last_progress == (0.5, "half")
            await again.wait()

    async with hearing(broker.url) as heard:
        async with app.lifespan():
            late = await work.with_options(expires=0.01).later("late")
            await asyncio.sleep(0.05)
        async with working(app):
            failing, rejected = await work.later("fail"), await work.later("reject")
            snoozed = await work.later("snooze")
            dead = await heard.ended(failing.id, "failed")
            assert dead[-1]["error"] == "ValueError: no such thing"
            assert (await heard.ended(rejected.id, "failed"))[-1]["error"] == "not today"
            (expired,) = [e for e in await heard.ended(late.id, "expired") if e["attempt"]]
            assert "started" not in expired
            await until(
                lambda: heard.states(snoozed.id)[-2:] == ["snoozed", "started"], "it runs again"
            )
            again.set()
            events = await heard.ended(snoozed.id, "done")
    nap = next(e for e in events if e["state"] == "snoozed")
    assert nap["due"] > nap["started"]
    assert (nap["progress"], nap["detail"]) == (0.5, "half")
    assert events[-2]["progress"] == 0.5  # the next run begins where the last one was


async def test_a_retry_says_when_and_why(broker: VirtualHost) -> None:
    """And the next run is another attempt."""
    app = app_at(broker.url)

    @app.job(queue="q", retry=None)
    async def work(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise RetryAfter(0.1)

    registry = app.client.runtime.registry
    registry.retry = type(registry.retry)(attempts=3)
    async with hearing(broker.url) as heard, working(app):
        handle = await work.later()
        events = await heard.ended(handle.id, "done")
    assert [(e["state"], e["attempt"]) for e in events if e["state"] != "started"] == [
        ("queued", 0), ("retrying", 1), ("done", 2),
    ]  # fmt: skip
    again = next(e for e in events if e["state"] == "retrying")
    assert again["error"]
    assert again["due"] >= again["started"]


async def test_a_request_that_fails_or_is_taken_back(broker_43: VirtualHost) -> None:
    """Who asked was told, so it is no dead letter; or nobody wants to be told any more."""
    app = app_at(broker_43.url)

    @app.job(queue="q")
    async def work(how: str) -> None:
        if how == "fail":
            raise ValueError("no such thing")
        await asyncio.Event().wait()

    async with hearing(broker_43.url) as heard, working(app):
        failing, hanging = work.message("fail"), work.message("hang")
        with pytest.raises(JobFailed):
            await app.request(failing)
        assert (await heard.ended(failing.id, "failed"))[-1]["error"] == (
            "ValueError: no such thing"
        )
        asking = asyncio.create_task(app.request(hanging))
        await heard.ended(hanging.id, "started")
        asking.cancel()
        await asyncio.wait([asking])
        await heard.ended(hanging.id, "cancelled")


async def test_an_unknown_job_is_parked(broker: VirtualHost) -> None:
    """Nobody knows its definition here; its id and its name are known."""
    app = app_at(broker.url)

    @app.job(queue="q")
    async def known() -> None: ...

    @app.job(queue="q")
    async def known_too() -> None: ...

    other = app_at(broker.url)

    @other.job(queue="q", name="newer")
    async def newer() -> None: ...

    async with hearing(broker.url) as heard, working(app), other.lifespan():
        handle = await newer.later()
        events = await heard.ended(handle.id, "parked")
    assert events[-1]["job"] == "newer"
    assert events[-1]["attempt"] == 1


async def test_what_is_interrupted_is_released(broker: VirtualHost) -> None:
    """Told to stop while it runs: no attempt is used, and the next worker starts it again."""
    app = app_at(broker.url, shutdown_timeout=3)

    @app.job(queue="q")
    async def work(ctx: Context) -> None:
        if first.is_set():
            return
        first.set()
        await asyncio.Event().wait()

    first = asyncio.Event()
    async with hearing(broker.url) as heard:
        async with working(app):
            handle = await work.later()
            await first.wait()
        await heard.ended(handle.id, "released")
        async with working(app):
            await heard.ended(handle.id, "done")
    told = [state for state in heard.states(handle.id) if state != "started"]
    assert told == ["queued", "released", "done"]


async def test_an_untracked_job_tells_nothing(broker_43: VirtualHost) -> None:
    """Nor does anything, with AMQPJOBS_EVENTS=0."""
    app = app_at(broker_43.url)
    silent = app_at(broker_43.url, events=False)
    ran: list[str] = []

    @app.job(queue="q", track=False)
    async def secret(ctx: Context) -> None:
        await ctx.progress(0.5)
        ran.append("secret")

    @app.job(queue="q")
    async def last() -> None: ...

    @silent.job(queue="silent")
    async def hushed(ctx: Context) -> None:
        await ctx.progress(0.5)
        ran.append("hushed")

    async with hearing(broker_43.url) as heard:
        async with working(silent):
            await hushed.later()
            await until(lambda: "hushed" in ran, "it ran")
        async with working(app):
            await secret.later()
            await until(lambda: "secret" in ran, "it ran")
            await heard.ended((await last.later()).id, "done")
    assert {e["job"] for e in heard.events} == {last.name}


async def test_nobody_listening_is_noticed_and_somebody_too(broker: VirtualHost) -> None:
    """The first message comes back; then next to nothing is sent until somebody is there, who is
    told the newest of what was before, too."""
    app = app_at(broker.url)

    @app.job(queue="q")
    async def work() -> None: ...

    async with working(app):
        publisher = await app.client.publisher()
        events = publisher.announcements
        first = await work.later()
        await until(lambda: not events.listening, "the message has come back")
        sent = events.sent
        second = await work.later()
        async with hearing(broker.url) as heard:
            await heard.ended(second.id, "done")
            assert heard.states(first.id) == []
            assert events.listening
    assert events.sent > sent
    assert events.dropped == 0


async def test_results_are_kept_on_request(broker_43: VirtualHost) -> None:
    """As JSON, up to a size; a result that does not fit its annotation fails no job."""
    app = app_at(broker_43.url, max_result_size=100)

    @app.job(queue="q", keep_result=True)
    async def kept(n: int) -> list[int]:
        return list(range(n))

    @app.job(queue="q", keep_result=60)
    async def wrong() -> int:
        return "not a number"  # type: ignore[return-value]

    async with hearing(broker_43.url) as heard, working(app):
        small, large, odd = await kept.later(3), await kept.later(300), await wrong.later()
        (good,) = [e for e in await heard.ended(small.id, "done") if "result" in e]
        assert (good["result"], good["keep"]) == ([0, 1, 2], 86400.0)
        bad = (await heard.ended(large.id, "done"))[-1]
        assert "result" not in bad
        assert "the limit is 100" in bad["error"]
        assert "annotation" in (await heard.ended(odd.id, "done"))[-1]["error"]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_progress_is_told_seldom_and_its_last_word_is_not_lost(
    broker_43: VirtualHost, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand words are a few events; the end has the last of them."""
    caplog.set_level(logging.INFO)
    app = app_at(broker_43.url)
    handler: Any

    def talk(ctx: Context) -> None:
        for n in range(1000):
            ctx.progress(n / 1000, f"step {n}")

    async def talk_async(ctx: Context) -> None:
        for n in range(1000):
            await ctx.progress(n / 1000, f"step {n}")

    handler = app.job(queue="q", name="talk")(talk if kind == "thread" else talk_async)
    async with hearing(broker_43.url) as heard, working(app):
        handle = await handler.later()
        events = await heard.ended(handle.id, "done")
    told = [e for e in events if "progress" in e and e["state"] == "started"]
    assert 1 <= len(told) <= 6
    assert (events[-1]["progress"], events[-1]["detail"]) == (0.999, "step 999")
    lines = [r for r in caplog.records if r.message == "progress"]
    assert len(lines) <= 7
    assert vars(lines[-1])["detail"] == "step 999"


async def test_a_job_in_a_process_tells_its_progress(broker_43: VirtualHost) -> None:
    """Over the socket of its answer: seldom, and its last word is not lost."""
    app = app_at(broker_43.url)
    from tests.commands.processes.cpu_jobs import tell

    app.job(queue="q", name="tell", cpu=True)(definition_of(tell).function)
    async with hearing(broker_43.url) as heard, working(app):
        job: Job[Any, Any, Any] = Job(registry_of(app).find("tell"))
        handle = await app.enqueue(job.message(500))
        events = await heard.ended(handle.id, "done")
    assert (events[-1]["progress"], events[-1]["detail"]) == (0.998, "step 499")
    assert len(events) < 20


async def test_a_quiet_job_is_not_forgotten(broker_43: VirtualHost) -> None:
    """The second of two quick words is told while the job goes on, not at its end."""
    app = app_at(broker_43.url)
    go = asyncio.Event()

    @app.job(queue="q")
    async def work(ctx: Context) -> None:
        await ctx.progress(0.1, "one")
        await ctx.progress(0.2, "two")
        await go.wait()

    async with hearing(broker_43.url) as heard, working(app):
        handle = await work.later()
        await until(
            lambda: any(e.get("detail") == "two" for e in heard.of(handle.id)), "the second word"
        )
        assert "done" not in heard.states(handle.id)
        go.set()
        await heard.ended(handle.id, "done")


async def test_who_may_not_tell_works_all_the_same(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """No permission to write to the exchange: said once, and every job is done and confirmed."""
    caplog.set_level(logging.WARNING, "amqpjobs")
    server, name = broker.server, f"user-{broker.name}"
    server.add_user(name, "secret")
    server.set_permissions(name, broker.name, write=r"^(?!amqpjobs\.events$).*")
    app = app_at(broker.url.replace("guest:guest", f"{name}:secret"))
    done: list[int] = []

    @app.job(queue="q")
    async def work(n: int) -> None:
        done.append(n)

    try:
        async with working(app):
            publisher = await app.client.publisher()
            await work.later(1)
            await until(lambda: "events cannot be sent" in caplog.text, "it is said")
            link = publisher.link
            assert link.reconnects == 0
            await app.later_many([work.message(n) for n in range(2, 4000)])
            await until(lambda: len(done) == 3999, "all are done")
            assert link.reconnects == 0
            assert len(publisher.announcements._waiting) <= event_publication.KEPT
            assert publisher.announcements.dropped > 0
    finally:
        server.delete_user(name)
    assert caplog.text.count("events cannot be sent") == 1


async def test_what_is_told_while_the_broker_is_away_is_bounded(own_broker_43: Broker) -> None:
    """The newest are kept, the rest is counted; and a new connection has a channel again."""
    app = app_at(own_broker_43.url, heartbeat=2)

    @app.job(queue="q")
    async def work() -> None: ...

    async with working(app):
        handle = await work.later()
        events = (await app.client.publisher()).announcements
        own_broker_43.kill()
        await until(lambda: events._channel is None, "it is noticed")
        for n in range(event_publication.KEPT + 1500):
            events.add((str(n), "j", "q", "started", 0, 1, n, 0.0, None))
        assert len(events._waiting) == event_publication.KEPT
        assert events.dropped >= 1500
        own_broker_43.start()
        async with hearing(own_broker_43.url) as heard:
            handle = await work.later()
            await heard.ended(handle.id, "done")


async def test_what_comes_back_at_the_end_is_in_no_log(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody listens, and the program is over before RabbitMQ has said so."""
    app = app_at(broker.url)

    @app.job(queue="q")
    async def job(n: int) -> None: ...

    for number in range(20):
        async with app.lifespan():
            await job.later(number)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("aiormq")] == []
