"""A worker on real brokers: what becomes of each message that it is given."""

import asyncio
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aio_pika
import attrs
from pydantic import BaseModel

from amqpjobs import Context, Queue, Reject
from tests.support.amqp import count, publish, publish_bare, ready, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import Ledger, command, consuming, environment
from tests.support.waiting import until
from tests.support.workers import app_at, working


async def test_a_job_is_acked_when_it_is_done_and_not_before(broker: VirtualHost) -> None:
    """While it runs, RabbitMQ still has it: a worker that dies would not take it along."""
    app = app_at(broker.url)
    started, go, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.job(queue="work")
    async def job(n: int) -> None:
        started.set()
        await go.wait()
        done.set()

    async with stranger(broker.url) as channel:
        async with working(app):
            await job.later(1)
            await started.wait()
            assert await count(channel, "work") == 0
        # It was cancelled when the worker stopped, and given back.
        await ready(channel, "work", 1)
        go.set()
        async with working(app):
            await done.wait()
        assert await count(channel, "work") == 0


async def test_two_workers_compete_for_a_queue(broker: VirtualHost) -> None:
    """Each job runs in one of them, and both work."""
    app = app_at(broker.url)
    done: list[int] = []
    both = asyncio.Event()
    running = 0

    @app.job(queue="work")
    async def job(n: int) -> None:
        nonlocal running
        running += 1
        if running == 2:
            both.set()
        await both.wait()  # one worker with one slot would wait for ever
        done.append(n)
        running -= 1

    options = {"concurrency": 1, "prefetch": 1}
    async with working(app, **options), working(app, **options):
        await app.later_many(job.message(n) for n in range(20))
        await until(lambda: len(done) == 20, "all are done")
    assert sorted(done) == list(range(20))


async def test_one_of_two_workers_in_a_process_may_stop(broker: VirtualHost) -> None:
    """The other goes on, and can still put aside what fails."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(n: int) -> None:
        raise ValueError

    async with working(app):
        pass
    first = working(app)
    await first.__aenter__()
    async with working(app):
        await first.__aexit__(None, None, None)
        async with stranger(broker.url) as channel:
            await publish(channel, "work", b"1")
        assert (await take(broker.url, "work.dead")).body == b"1"


def test_a_job_whose_worker_is_killed_runs_in_another(broker: VirtualHost, tmp_path: Path) -> None:
    """`kill -9` in the middle of a job: RabbitMQ gives it to the next one, no attempt used. From
    4.3 it counts that as a sudden death, and the job runs in quarantine there."""
    env = environment(broker.url, tmp_path)
    ledger = Ledger(env)
    with consuming("work", env=env) as first:
        assert command("enqueue", "hold", "--args", "1", env=env).returncode == 0
        ledger.wait_for("started", [1])
        with consuming("work", env=env) as second:
            first.signal(signal.SIGKILL)
            ledger.go()
            ledger.wait_for("done", [1])
            second.wait_for("job done")
    started = [line for line in ledger.lines if line["event"] == "started"]
    assert [line["pid"] == first.pid for line in started] == [True, False]
    assert (started[1]["pid"] == second.pid) == (broker.version == "3.10")
    assert [line["attempt"] for line in started] == [1, 1]
    assert len({line["id"] for line in started}) == 1


@dataclass
class Bad:
    """A message that is no call of the job `number`, and why."""

    body: bytes
    reason: str
    properties: dict[str, Any]


BAD = {
    "not JSON": Bad(b"\x80\x81 no json", "invalid", {"type": "number"}),
    "cut off": Bad(b'{"n": ', "invalid", {"type": "number"}),
    "wrong schema": Bad(b'{"n": "seven"}', "invalid", {"type": "number"}),
    "an argument too many": Bad(b'{"n": 1, "m": 2, "x": 3}', "invalid", {"type": "number"}),
    "an argument too few": Bad(b'{"n": 1}', "invalid", {"type": "number"}),
    "deep": Bad(b"[" * 50_000, "invalid", {"type": "number"}),
    "empty": Bad(b"", "invalid", {"type": "number"}),
    "pickle": Bad(
        b'{"n": 1, "m": 2}', "invalid", {"type": "number", "content_type": "application/x-pickle"}
    ),
    "compressed": Bad(b"\x1f\x8b\x00", "invalid", {"type": "number", "content_encoding": "gzip"}),
    "a forged attempt": Bad(
        b'{"n": 1, "m": 2}',
        "undecodable",
        {"type": "number", "headers": {"amqpjobs-attempt": "many"}},
    ),
    "a forged deadline": Bad(
        b'{"n": 1, "m": 2}',
        "undecodable",
        {"type": "number", "headers": {"amqpjobs-deadline": {"at": 1}}},
    ),
}


async def test_what_is_no_call_of_a_job_goes_to_the_dead_letters(broker: VirtualHost) -> None:
    """With reason, exception, worker and time; the body's bytes are untouched."""
    app = app_at(broker.url)
    done: list[int] = []

    @app.job(queue="work")
    async def number(n: int, m: int) -> None:
        done.append(n)

    before = time.time()
    async with working(app), stranger(broker.url) as channel:
        for name, bad in BAD.items():
            await publish(channel, "work", bad.body, message_id=name, **bad.properties)
        await publish(channel, "work", b'{"n": 1, "m": 2}', type="number")
        dead = {m.message_id: m for m in [await take(broker.url, "work.dead") for _ in BAD]}
        await until(lambda: done, "the good one is done")
        assert await count(channel, "work.parked") == 0
    assert set(dead) == set(BAD)
    for name, bad in BAD.items():
        error: Any = dead[name].headers["amqpjobs-error"]
        assert dead[name].body == bad.body, name
        assert error["reason"] == bad.reason, name
        assert error["exception"] == "amqpjobs.errors.DecodeError", name
        assert error["worker"] == f"{socket.gethostname()}:{os.getpid()}"
        assert before - 1 < error["time"] / 1000 < time.time() + 1
        assert error["queue"] == "work"
        assert dead[name].type == "number"
        assert "seven" not in error["message"]


async def test_a_body_over_the_limit_goes_to_the_dead_letters(broker: VirtualHost) -> None:
    """Strangers may publish what we would not; the worker stays, and the bytes are kept."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def text(words: str) -> None: ...

    body = b'"' + b"x" * 3_000_000 + b'"'
    async with working(app) as worker, stranger(broker.url) as channel:
        await publish(channel, "work", body)
        dead = await take(broker.url, "work.dead")
        assert dead.body == body
        error: Any = dead.headers["amqpjobs-error"]
        assert "AMQPJOBS_MAX_MESSAGE_SIZE" in error["message"]
        assert worker.ready


async def test_a_handler_that_raises_puts_its_job_into_the_dead_letters(
    broker: VirtualHost,
) -> None:
    """With its exception and where it was raised, and never the arguments. So do `Reject`, raised
    and returned, a job that cancels itself, and one that calls `sys.exit`."""
    app = app_at(broker.url)

    class PrintError(Exception): ...

    @app.job(queue="work")
    async def raises(secret: str) -> None:
        raise PrintError("out of paper")

    @app.job(queue="work")
    async def rejects(secret: str) -> None:
        raise Reject("no such album")

    @app.job(queue="work")
    async def returns_reject(secret: str) -> Any:
        return Reject("no such album")

    @app.job(queue="work")
    async def cancels(secret: str) -> None:
        raise asyncio.CancelledError

    @app.job(queue="work")
    def exits(secret: str) -> None:
        sys.exit(3)

    @app.job(queue="work")
    async def exits_on_the_loop(secret: str) -> None:
        sys.exit(3)

    jobs = [raises, rejects, returns_reject, cancels, exits, exits_on_the_loop]
    async with working(app) as worker:
        handles = [await job.later("hunter2") for job in jobs]
        dead = {m.type: m for m in [await take(broker.url, "work.dead") for _ in jobs]}
        assert worker.ready
    assert {m.message_id for m in dead.values()} == {h.id for h in handles}
    errors: dict[str, Any] = {str(k): m.headers["amqpjobs-error"] for k, m in dead.items()}
    assert errors["raises"]["message"] == "out of paper"
    assert errors["raises"]["exception"].endswith(".PrintError")
    assert errors["raises"]["frames"][0].startswith(f"{__file__}:")
    assert errors["raises"]["reason"] == "failed"
    assert errors["rejects"]["reason"] == errors["returns_reject"]["reason"] == "rejected"
    assert errors["rejects"]["message"] == "no such album"
    assert errors["cancels"]["reason"] == "failed"
    for name in ("exits", "exits_on_the_loop"):
        assert (errors[name]["reason"], errors[name]["exception"]) == ("failed", "SystemExit")
    assert "hunter2" not in json.dumps({k: str(v) for k, v in errors.items()})


async def test_an_unknown_job_is_parked_until_a_worker_knows_it(broker: VirtualHost) -> None:
    """A rolling deploy: the old release parks what the new one enqueued, and the new one takes it
    up when it starts. What nobody knows stays parked."""
    old, new = app_at(broker.url), app_at(broker.url)
    done: list[int] = []

    @old.job(queue="work", name="known")
    async def known(n: int) -> None: ...

    @new.job(queue="work", name="known")
    async def still_known(n: int) -> None: ...

    @new.job(queue="work", name="added")
    async def added(n: int) -> None:
        done.append(n)

    async with stranger(broker.url) as channel:
        async with working(old):
            handles = [await added.later(n) for n in range(3)]
            await publish(channel, "work", b"1", type="never")
            await until(lambda: _has(channel, "work.parked", 4), "four are parked")
            assert await count(channel, "work.dead") == 0
        async with working(new):
            await until(lambda: len(done) == 3, "the new job is done")
            await until(lambda: _has(channel, "work.parked", 1), "one is still parked")
    assert sorted(done) == [0, 1, 2]
    assert len(handles) == 3
    parked = await take(broker.url, "work.parked")
    error: Any = parked.headers["amqpjobs-error"]
    assert (parked.type, error["reason"]) == ("never", "unknown-job")


async def _has(channel: Any, queue: str, number: int) -> bool:
    return await count(channel, queue) == number


async def test_a_message_without_a_type_is_the_queues_only_job(broker: VirtualHost) -> None:
    """As other languages publish; with two jobs nobody can tell, and it is parked."""
    app = app_at(broker.url)
    seen: list[Any] = []

    @app.job(queue="single")
    async def only(ctx: Context, n: int) -> None:
        seen.append((n, ctx.job_id, ctx.attempt, ctx.message.headers))

    @app.job(queue="double")
    async def one(n: int) -> None: ...

    @app.job(queue="double")
    async def two(n: int) -> None: ...

    headers = {"x-tenant": "a", "nested": {"list": [1, "2"]}, "when": 1.5}
    async with working(app), stranger(broker.url) as channel:
        publish_bare(broker, "single", b"7", headers=headers, priority=255)
        await publish(channel, "single", b" 8 ", content_type="application/json; charset=utf-8")
        await publish(channel, "double", b"9")
        await until(lambda: len(seen) == 2, "both are done")
        assert (await take(broker.url, "double.parked")).body == b"9"
    (first, job_id, attempt, found), (second, other_id, _, _) = sorted(seen)
    assert (first, second, attempt) == (7, 8, 1)
    assert found["x-tenant"] == "a"
    assert found["nested"] == {"list": [1, "2"]}
    assert len(job_id) == 36
    assert job_id != other_id


async def test_what_expired_is_not_run(broker: VirtualHost) -> None:
    """A deadline that has passed: acked and not run; AMQP's expiration, which strangers may use,
    makes a dead letter."""
    app = app_at(broker.url)
    done: list[int] = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        done.append(n)

    past = int((time.time() - 5) * 1000)
    async with stranger(broker.url) as channel:
        async with app.lifespan():
            # At the queue's head: that is where a quorum queue looks at expirations.
            await publish(channel, "work", b"4", expiration=timedelta(milliseconds=1))
            await job.with_options(expires=0.001).later(1)
        await until(lambda: _has(channel, "work.dead", 1), "RabbitMQ expired it")
        async with working(app):
            await publish(channel, "work", b"2", headers={"amqpjobs-deadline": past})
            await publish(channel, "work", b"3", headers={"amqpjobs-deadline": past + 60_000})
            await until(lambda: done, "the last is done")
        assert await count(channel, "work") == 0
        assert await count(channel, "work.dead") == 1
    assert done == [3]


async def test_a_job_over_its_timeout_is_cancelled(broker: VirtualHost) -> None:
    """It sees the cancellation, and goes to the dead letters; one with a `TimeoutError` of its own
    is not taken for it."""
    app = app_at(broker.url)
    cancelled: list[int] = []

    @app.job(queue="work", timeout=0.2)
    async def slow(n: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(n)

    @app.job(queue="work", timeout=5)
    async def own(n: int) -> None:
        raise TimeoutError("the printer's")

    async with working(app):
        await slow.later(1)
        await own.later(2)
        dead = {m.type: m for m in [await take(broker.url, "work.dead") for _ in range(2)]}
    errors: dict[str, Any] = {str(k): m.headers["amqpjobs-error"] for k, m in dead.items()}
    assert errors["slow"]["exception"] == "amqpjobs.errors.JobTimeout"
    assert "0.2 s" in errors["slow"]["message"]
    assert errors["own"]["exception"] == "TimeoutError"
    assert cancelled == [1]


async def test_plain_functions_run_in_threads(broker: VirtualHost) -> None:
    """Beside each other and beside the event loop; the context is theirs, too."""
    app = app_at(broker.url)
    barrier = threading.Barrier(3, timeout=10)
    seen: list[tuple[str, str]] = []

    @app.job(queue="work")
    def job(ctx: Context, n: int) -> None:
        barrier.wait()  # three at once, or it breaks
        assert not ctx.stopping.is_set()
        seen.append((threading.current_thread().name, ctx.job_id))

    async with working(app, concurrency=3):
        handles = await app.later_many(job.message(n) for n in range(3))
        await until(lambda: len(seen) == 3, "all are done")
    assert threading.main_thread().name not in {name for name, _ in seen}
    assert {job_id for _, job_id in seen} == {h.id for h in handles}


async def test_a_thread_over_its_timeout_keeps_its_slot_only(broker: VirtualHost) -> None:
    """It cannot be ended; its job has failed, and other jobs have the other slots."""
    app = app_at(broker.url)
    go = threading.Event()
    done: list[int] = []

    @app.job(queue="work", timeout=1)
    def stuck(n: int) -> None:
        go.wait(30)

    @app.job(queue="work")
    def fine(n: int) -> None:
        done.append(n)

    async with working(app, concurrency=2) as worker:
        await stuck.later(1)
        await fine.later(2)
        dead = await take(broker.url, "work.dead")
        error: Any = dead.headers["amqpjobs-error"]
        assert error["exception"] == "amqpjobs.errors.JobTimeout"
        await until(lambda: done, "the other job is done")
        assert worker.stuck
        go.set()


class Album(BaseModel):
    name: str


@dataclass
class Print:
    width: int


@attrs.define
class Frame:
    wood: str


async def test_methods_are_jobs(broker: VirtualHost) -> None:
    """The object is rebuilt from its fields in the worker: pydantic, dataclass and attrs."""
    app = app_at(broker.url)
    seen: list[object] = []

    class PublishAlbum(BaseModel):
        album: Album

        @app.job(queue="work")
        async def call(self, ctx: Context, copies: int = 1) -> None:
            seen.append((self.album.name, copies, ctx.attempt))

    @dataclass
    class Enlarge:
        size: Print

        @app.job(queue="work")
        def call(self, factor: int) -> None:
            seen.append(self.size.width * factor)

    @attrs.define
    class Hang:
        wood: str

        @app.job(queue="work")
        async def call(self) -> None:
            seen.append(self.wood)

    async with working(app):
        await PublishAlbum(album=Album(name="summer")).call.later(copies=2)
        await PublishAlbum(album=Album(name="winter")).call.later()
        await Enlarge(Print(10)).call.later(3)
        await Hang("oak").call.later()
        await until(lambda: len(seen) == 4, "all four are done")
    assert set(seen) == {("summer", 2, 1), ("winter", 1, 1), 30, "oak"}


async def test_middleware_wraps_publishing_and_processing(broker: VirtualHost) -> None:
    """One chain each; what processing middleware raises is the job's failure."""
    app = app_at(broker.url)
    order: list[str] = []

    async def outer(call_next: Any, context: Context) -> object:
        order.append("in")
        try:
            return await call_next(context)
        finally:
            order.append("out")

    async def refuse(call_next: Any, context: Context) -> object:
        if context.message.headers.get("tenant") == "gone":
            raise Reject("no such tenant")
        return await call_next(context)

    app.client.runtime.registry.processing = (outer, refuse)

    @app.job(queue="work")
    async def job(n: int) -> None:
        order.append("job")

    async with working(app), stranger(broker.url) as channel:
        await job.later(1)
        await until(lambda: order == ["in", "job", "out"], "it is done inside of the middleware")
        await publish(channel, "work", b"2", headers={"tenant": "gone"})
        dead = await take(broker.url, "work.dead")
    assert dead.headers["amqpjobs-error"]["message"] == "no such tenant"  # type: ignore[index,call-overload]


async def test_jobs_enqueue_jobs(broker: VirtualHost) -> None:
    """A handler publishes over its worker's own connection, and goes on with the trace."""
    app = app_at(broker.url)
    traces: list[object] = []
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    @app.job(queue="work")
    async def parent(ctx: Context, n: int) -> None:
        traces.append(ctx.trace_id)
        await child.later(n)

    @app.job(queue="more")
    async def child(ctx: Context, n: int) -> None:
        traces.append(ctx.trace_id)

    async with working(app), stranger(broker.url) as channel:
        await publish(channel, "work", b"1", headers={"traceparent": trace})
        await until(lambda: len(traces) == 2, "the child is done")
    assert traces == ["0af7651916cd43dd8448eb211c80319c"] * 2


async def test_a_slow_job_holds_up_nobody(broker: VirtualHost) -> None:
    """Others pass it, and are acked while it runs: RabbitMQ has only one unacked left."""
    app = app_at(broker.url)
    go, done = asyncio.Event(), []

    @app.job(queue="work")
    async def slow(n: int) -> None:
        await go.wait()

    @app.job(queue="work")
    async def fast(n: int) -> None:
        done.append(n)

    async with working(app, concurrency=2, prefetch=3):
        await slow.later(0)
        await app.later_many(fast.message(n) for n in range(50))
        await until(lambda: len(done) == 50, "all others are done")
        go.set()


async def test_strangers_publish_with_everything_that_amqp_allows(broker: VirtualHost) -> None:
    """All properties set, by a plain client: the job runs, and a copy among the dead letters keeps
    them, but for what would act on it again."""
    app = app_at(broker.url)

    @app.job(queue=Queue("work", type="classic", max_priority=5))
    async def job(n: int) -> None:
        raise ValueError("no")

    async with working(app), stranger(broker.url) as channel:
        message = aio_pika.Message(
            b"1",
            headers={"x-death": "forged", "CC": ["work"], "keep": "me"},
            content_type="application/json",
            priority=3,
            correlation_id="c",
            reply_to="r",
            expiration=timedelta(minutes=1),
            message_id="m",
            timestamp=1_700_000_000,
            type="job",
            user_id="guest",
            app_id="stranger",
        )
        await channel.default_exchange.publish(message, "work", timeout=10)
        dead = await take(broker.url, "work.dead")
    assert (dead.correlation_id, dead.reply_to, dead.message_id) == ("c", "r", "m")
    assert (dead.app_id, dead.user_id, dead.expiration) == ("stranger", None, None)
    assert dead.headers["keep"] == "me"
    assert "x-death" not in dead.headers
    assert "CC" not in dead.headers
