"""The public API as type checkers see it. Checked by mypy and pyright, never run.

Each wrong call carries an ignore for both checkers; an ignore that is not needed is an error too,
so a wrong call that passed would be found.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, assert_type
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from amqpjobs import (
    INJECTED,
    App,
    Batch,
    BlockingJobHandle,
    Bytes,
    CloudEvent,
    CloudEventOf,
    Context,
    Cron,
    Debounce,
    Depends,
    Ended,
    Every,
    JobHandle,
    JobStatus,
    Limit,
    Message,
    MsgPack,
    Pipeline,
    Queue,
    Retry,
    Router,
    ScheduleStatus,
    Text,
    Tick,
    TickRecord,
    Unique,
    group,
)
from amqpjobs.client.fleet_answers import WorkerInfo
from amqpjobs.contrib.audit import Audit
from amqpjobs.contrib.sentry import Sentry
from amqpjobs.contrib.timeouts import Timeouts
from amqpjobs.jobs.message.cancellation import Cancellation
from amqpjobs.jobs.within import AsyncTransaction, Transaction
from amqpjobs.testing import Dead, Enqueued

app = App("typing")
queue = Queue("typing", priorities={"high": 3, "low": 1})


class Size(BaseModel):
    width: int


@app.job(queue=queue, timeout=30)
async def thumbnail(ctx: Context, path: str, factor: float = 0.5) -> Size:
    return Size(width=len(path))


@app.job(queue="plain")
async def plain(count: int) -> str:
    return str(count)


@app.job(queue="plain")
def threaded(count: int) -> str:
    return str(count)


@app.job(queue="plain", cpu=True, timeout=5, memory_limit=2**30)
def hard(ctx: Context, count: int) -> int:
    return count


@app.job(queue="rows", batch=Batch(100, within=0.5), timeout=30, grace=5)
async def insert(rows: list[Size]) -> None: ...


@app.job(queue="rows", batch=Batch(100, within=timedelta(seconds=1), on_failure="together"))
async def lengths(ctx: Context, words: list[str]) -> list[int]:
    return [len(word) for word in words]


@app.job(queue="rows", batch=Batch(100))
async def maybe(words: list[str]) -> list[int] | None:
    return None


async def batches() -> None:
    assert_type(await insert.later(Size(width=1)), JobHandle[None])
    assert_type(insert.message(Size(width=1)), Message[None])
    assert_type(await lengths.request("word"), int)
    assert_type(await lengths("word"), int)
    assert_type(await maybe.request("word"), int)
    await insert.later([Size(width=1)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await lengths.later(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Batch(100, on_failure="none")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.job(queue="rows", batch=Batch(100))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue, reportUntypedFunctionDecorator]
async def no_list(row: Size) -> None: ...


def half(customer: int) -> int:
    return customer % 2


@app.job(
    queue="plain",
    cancellable=True,
    limit=[Limit(20), Limit(2, key=half, group="halves")],
    unique=Unique(key="customer", until="start", ttl=timedelta(hours=1)),
)
async def limited(
    ctx: Context, customer: Annotated[int, Limit(1, when_busy="replace")], full: bool = False
) -> str:
    assert_type(ctx.fence("customer"), int)
    return str(customer)


@app.job(queue="plain", debounce=Debounce(5, key=["customer"], at_most=60, last=True))
async def debounced(customer: int, text: str) -> None: ...


async def exclusion() -> None:
    handle = await limited.later(7)
    assert_type(handle, JobHandle[str])
    assert_type(handle.existing, bool)
    assert_type(await debounced.later(7, "text"), JobHandle[None])
    async with app.lock("invoice:7", lease=60, timeout=timedelta(seconds=5)) as lock:
        assert_type(lock.token, int)
        assert_type(await lock.still_mine(), bool)
    with app.blocking() as client, client.lock("invoice:7") as held:
        assert_type(held.token, int)
        assert_type(held.still_mine(), bool)
    Limit(1, when_busy="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Unique(until="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await limited.later("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@app.job(queue="plain", schedule=Cron("0 7 * * mon-fri", tz="Europe/Berlin", missed="all"))
async def scheduled(ctx: Context) -> str:
    if ctx.tick is not None:
        assert_type(ctx.tick, Tick)
        assert_type(ctx.tick.due, float)
        assert_type(ctx.tick.previous, float | None)
        assert_type(ctx.tick.due_time, datetime)
        assert_type(ctx.tick.how, Literal["cron", "missed", "run_now", "backfill"])
    return "done"


@app.job(
    queue="plain",
    schedule=[
        Cron("@daily", ZoneInfo("Europe/Berlin"), within=timedelta(hours=6), name="nightly"),
        Every(minutes=5, jitter=10, overlap="queue_one"),
    ],
)
async def scheduled_twice(count: int = 1) -> None: ...


@app.job(queue="rows", batch=Batch(100), schedule=None)
async def never(rows: list[Size]) -> None: ...


async def schedules() -> None:
    assert_type(await scheduled.request(), str)
    assert_type(await scheduled_twice.later(2), JobHandle[None])
    Cron("@daily", missed="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Cron("@daily", "UTC", "latest")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Cron(tz="UTC")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Every(5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Every(minutes=5, overlap="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    app.job(queue="plain", schedule="@daily")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def schedules_at_run_time(later: AsyncTransaction, now: Transaction) -> None:
    message = scheduled_twice.message(2)
    assert_type(await app.schedules.put("x", Cron("@daily"), message), ScheduleStatus)
    paused = await app.schedules.pause("x", note="why", until=timedelta(hours=1))
    assert_type(paused.last, TickRecord | None)
    assert_type(await app.schedules.get("x"), ScheduleStatus | None)
    assert_type(await app.schedules.list(), list[ScheduleStatus])
    assert_type(await app.schedules.remove("x"), bool)
    assert_type((await app.schedules.run_now("x")).id, str)
    assert_type((await app.schedules.next("x", 2))[0], datetime)
    assert_type(await app.schedules.within(later).remove("x"), bool)
    await app.schedules.within(later).put("x", Every(hours=1), message)
    app.schedules.within(now).put("x", Every(hours=1), message)
    assert_type(app.schedules.within(now).remove("x"), bool)
    await app.schedules.put("x", "@daily", message)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.schedules.put("x", Every(hours=1), scheduled_twice)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def get_session() -> int:
    return 1


@app.job(queue="plain")
async def injected(count: int, session: Annotated[int, Depends(get_session)] = INJECTED) -> int:
    return count + session


class Album(BaseModel):
    album_id: int

    @app.job(queue="albums")
    async def publish(self, loudly: bool = False) -> int:
        return self.album_id

    @app.job(queue="albums")
    async def remember(self, ctx: Context, what: str) -> str:
        return what


@dataclass
class Mail:
    to: str

    @app.job(queue="mails")
    def send(self, subject: str) -> bool:
        return bool(subject)


async def right() -> None:
    assert_type(await thumbnail("a"), Size)
    assert_type(await thumbnail("a", factor=2.0), Size)
    assert_type(await thumbnail.later("a"), JobHandle[Size])
    assert_type(thumbnail.message("a"), Message[Size])
    assert_type(
        await thumbnail.with_options(priority="high", expires=5).later("a"), JobHandle[Size]
    )
    assert_type(await plain(3), str)
    assert_type(threaded(3), str)
    assert_type(await threaded.later(3), JobHandle[str])
    assert_type(hard(3), int)
    assert_type(await injected(3), int)
    assert_type(await injected.later(3), JobHandle[int])
    assert_type(await Album(album_id=1).publish(), int)
    assert_type(await Album(album_id=1).publish.later(loudly=True), JobHandle[int])
    assert_type(await Album(album_id=1).remember("x"), str)
    assert_type(await Album(album_id=1).remember.later("x"), JobHandle[str])
    assert_type(Mail("x").send("hello"), bool)
    assert_type(await Mail("x").send.later("hello"), JobHandle[bool])
    await app.later_many([thumbnail.message("a"), plain.message(1)])
    with app.blocking() as client:
        assert_type(client.later(plain.message(1)), BlockingJobHandle[str])
        assert_type(client.request(plain.message(1), timeout=5), str)


async def asked() -> None:
    assert_type(await thumbnail.request("a", factor=2.0), Size)
    assert_type(await thumbnail.with_options(timeout=5).request("a"), Size)
    acme = thumbnail.with_options(headers={"tenant": "acme", "n": 7, "big": True, "old": None})
    assert_type(await acme.later("a"), JobHandle[Size])
    named = acme.with_options(queue="plain", retry=Retry(attempts=2), run_timeout=5, id="7")
    assert_type(named.with_options(queue=queue, tags=("a", "b")).message("a"), Message[Size])
    assert_type(await threaded.request(3), str)
    assert_type(await Album(album_id=1).publish.request(loudly=True), int)
    assert_type(await Album(album_id=1).remember.request("x"), str)
    assert_type(await Mail("x").send.request("hello"), bool)
    assert_type(await app.request(thumbnail.message("a"), timeout=5), Size)
    assert_type(await app.request(thumbnail.message("a"), timeout=timedelta(minutes=1)), Size)
    assert_type(await app.request("queue", {"a": 1}, returns=Size), Size)
    assert_type(await app.request("queue", b"", type="t", timeout=1), Any)


@app.job(queue="plain", keep_result=timedelta(hours=1), track=True)
async def told(ctx: Context, count: int) -> int:
    await ctx.progress(0.5, "half")
    assert_type(ctx.tags, tuple[str, ...])
    assert_type(ctx.redelivered, bool)
    assert_type(ctx.delivery_count, int | None)
    return count if ctx.last_progress is None else round(ctx.last_progress.fraction * count)


@app.job(queue="plain", keep_result=True)
def told_in_a_thread(ctx: Context) -> None:
    ctx.progress(0.5)


async def handles() -> None:
    handle = await thumbnail.later("a")
    assert_type(await handle.result(timeout=30), Size)
    assert_type(await handle.result(timeout=timedelta(minutes=1)), Size)
    assert_type(await handle.result(), Size)
    assert_type(await handle.status(), JobStatus | None)
    assert_type(await handle.cancel(reason="twice"), Cancellation)
    assert_type(await handle.signal("approval", 7), bool)
    async for status in handle.watch():
        assert_type(status, JobStatus)
    assert_type(await (await threaded.later(3)).result(), str)
    assert_type(await (await Album(album_id=1).publish.later()).result(), int)
    assert_type(await (await Mail("x").send.later("hello")).result(), bool)
    several = await app.later_many([thumbnail.message("a"), thumbnail.message("b")])
    assert_type([await each.result() for each in several], list[Size])
    assert_type(await app.result("id", timeout=5), Any)
    wider: JobHandle[BaseModel] = handle
    assert_type(wider.id, str)
    by_hand: JobHandle[int] = JobHandle("id", "job", "queue")
    assert_type(await by_hand.result(), int)


@app.job(queue="plain", cancellable=True)
def asked_to_end(ctx: Context) -> bool:
    return ctx.cancelled


async def operating() -> None:
    assert_type(await app.fleet.pause("plain", for_=timedelta(hours=1)), list[str])
    assert_type(await app.fleet.set_rate("plain", None), list[str])
    assert_type(await app.fleet.workers(), list[WorkerInfo])
    assert_type((await app.fleet.ping()).ok, bool)
    assert_type(await app.cancel("id"), Cancellation)


def blocking_handles() -> None:
    with app.blocking() as client:
        handle = client.later(thumbnail.message("a"))
        assert_type(handle, BlockingJobHandle[Size])
        assert_type(handle.result(timeout=30), Size)
        assert_type(handle.status(), JobStatus | None)
        assert_type(handle.cancel(), Cancellation)
        for status in handle.watch():
            assert_type(status, JobStatus)
        several = client.later_many([plain.message(1)])
        assert_type([each.result() for each in several], list[str])
        assert_type(client.result("id"), Any)
        assert_type(client.status("id"), JobStatus | None)
        assert_type([each.state for each in client.watch("id")], list[str])


class Pool:
    async def fetch(self, query: str) -> str:
        return query


@asynccontextmanager
async def opened(app: App) -> AsyncGenerator[Pool, None]:
    yield Pool()


pooled = App("pooled", lifespan=opened)


@pooled.on_start
async def begin() -> None: ...


@pooled.on_stop
def end() -> int:
    return 0


@pooled.job(queue="plain")
async def report(month: int, pool: Annotated[Pool, Depends(pooled.resources)] = INJECTED) -> str:
    return await pool.fetch(f"month {month}")


@pooled.on_failed
async def alert(ended: Ended) -> None: ...


@pooled.on_success(plain)
def note(ended: Ended) -> int:
    return ended.attempt


async def around(call_next: Callable[[Context], Awaitable[object]], context: Context) -> object:
    if context.will_retry or context.would_retry(OSError()):
        context.arguments["count"] = 1
    return await call_next(context)


surrounded = App("surrounded", processing=[around, Timeouts(60), Audit(), Sentry()])
layered = Queue("layered", middleware=[around])


@surrounded.job(queue=layered, middleware=[around, Timeouts(timedelta(minutes=1))])
async def inside(count: int) -> str:
    return str(count)


router = Router(prefix="typing")
app.include(router)
Router().include(router)


@router.job(queue=queue, timeout=30, middleware=[around])
async def routed(ctx: Context, path: str, factor: float = 0.5) -> Size:
    return Size(width=len(path))


@router.job(queue="plain")
def routed_in_a_thread(count: int) -> str:
    return str(count)


class Parcel(BaseModel):
    parcel_id: int

    @router.job(queue="parcels")
    async def send(self, to: str) -> int:
        return self.parcel_id


@router.on_retry(routed)
async def noted(ended: Ended) -> None: ...


async def routers() -> None:
    assert_type(await routed("a"), Size)
    assert_type(await routed.later("a", factor=1), JobHandle[Size])
    assert_type(await routed_in_a_thread.request(3), str)
    assert_type(routed_in_a_thread(3), str)
    assert_type(await Parcel(parcel_id=1).send.request("a"), int)
    await routed.later(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Parcel(parcel_id=1).send.later(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    router.job()  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    app.include("router")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def callbacks() -> None:
    both = plain.with_options(on_success=told.message(1), on_failure=told_in_a_thread.message())
    assert_type(await both.later(1), JobHandle[str])
    plain.with_options(on_success=plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def hooks() -> None:
    await alert(Ended("job", "id", "queue", 1, "failed"))  # left as it is
    assert_type(note(Ended("job", "id", "queue", 1, "done")), int)
    assert_type(await (await inside.later(1)).result(), str)
    await begin()  # the function is left as it is
    assert_type(end(), int)
    assert_type(pooled.resources(), Any)
    assert_type(await report(1), str)
    assert_type(await report.later(1), JobHandle[str])
    assert_type(await (await report.later(1)).result(), str)


async def statuses() -> None:
    assert_type(await app.status("id"), JobStatus | None)
    async for status in app.watch("id"):
        assert_type(status, JobStatus)
        assert_type(status.progress, float | None)


async def tested() -> None:
    async with app.testing(profile="3.10") as t:
        assert_type(t.results(plain), list[str])
        assert_type(t.enqueued(plain), list[Enqueued])
        assert_type(t.dead(), list[Dead])
        t.results(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def wrong() -> None:
    await thumbnail(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await thumbnail()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.later(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await thumbnail.later("a", "b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await thumbnail.later("a", size=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    thumbnail.message(b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.with_options(headers={"tenant": b"acme"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    thumbnail.with_options(prio="high")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await plain.later("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await threaded.later()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    hard("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await injected.later("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Album(album_id=1).publish.later(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Album(album_id=1).remember.later()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await thumbnail.request(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await plain.request()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await Album(album_id=1).remember.request(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await app.request("queue")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Mail("x").send(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    handle = await plain.later(1)
    await handle.result(30)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await handle.result(timeout="30")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    narrower: JobHandle[int] = handle  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    narrower.id = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    App("x", lifespan=Pool)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    pooled.on_failed(begin)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType, reportCallIssue]
    pooled.on_start(thumbnail)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    with app.blocking() as client:
        awaited: JobHandle[str] = client.later(plain.message(1))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        assert_type(awaited.id, str)
        await client.later(plain.message(1)).result()  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        client.later("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Pipelines.


@app.job(queue="pipelines")
async def measured(size: Size, factor: int, *, sharp: bool = False) -> int:
    return size.width * factor


@app.job(queue="pipelines")
async def summed(counts: list[int]) -> int:
    return sum(counts)


@app.job(queue="pipelines")
async def paired(pair: tuple[str, int], note: str = "") -> str:
    return f"{pair}{note}"


@app.job(queue="pipelines")
async def mixed(parts: list[str | int]) -> None: ...


async def pipelines(session: AsyncTransaction) -> None:
    chain = thumbnail.message("a.png").then(measured, 2)
    assert_type(chain, Pipeline[int])
    assert_type(chain.then(plain).then(thumbnail, factor=0.1), Pipeline[Size])
    assert_type(await app.enqueue(chain), JobHandle[int])
    assert_type(await app.request(chain), int)
    thumbnail.message("a.png").then(measured, 2, sharp=True)
    thumbnail.message("a.png").then(measured.with_options(delay=3), 2)
    thumbnail.message("a.png").then(measured)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    thumbnail.message("a.png").then(measured, "2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    thumbnail.message("a.png").then(measured, 2, blunt=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    thumbnail.message("a.png").then(plain)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain.message(1).then(len)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]

    one = group(hard.message(1), hard.message(2))
    assert_type(await app.request(one), tuple[int, int])
    assert_type(one.then(summed), Pipeline[int])
    two = group(plain.message(1), chain)
    assert_type(await app.request(two), tuple[str, int])
    assert_type(two.then(paired, "x"), Pipeline[str])
    assert_type(two.then(mixed), Pipeline[None])
    many = group(hard.message(count) for count in range(3))
    assert_type(await app.request(many), list[int])
    assert_type(many.then(summed).then(plain), Pipeline[str])
    six = group(*[hard.message(count) for count in range(6)])
    assert_type(six.then(summed), Pipeline[int])
    assert_type(await app.request(group(one, two)), tuple[tuple[int, int], tuple[str, int]])
    two.then(summed)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    group(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    group(plain)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert_type(await app.within(session).enqueue(chain), JobHandle[int])
    with app.blocking() as client:
        assert_type(client.later(chain), BlockingJobHandle[int])
        assert_type(client.request(chain), int)


async def pipelines_in_durable_jobs(ctx: Context) -> None:
    chain = thumbnail.message("a.png").then(measured, 2)
    assert_type(await ctx.call("chain", chain), int)
    assert_type(await ctx.call("both", group(chain, plain.message(1))), tuple[int, str])


async def numbers_later() -> AsyncGenerator[int]:
    yield 1


async def maps(ctx: Context) -> None:
    assert_type(await ctx.map("plain", plain, [1, 2]), list[str])
    assert_type(await ctx.map("plain", plain, range(3), at_most=50, chunk=10), list[str])
    assert_type(await ctx.map("later", plain, numbers_later(), stragglers=2.5), list[str])
    assert_type(await ctx.map("some", plain, {1, 2}, on_failure=0.1, prepare=list), list[str])
    assert_type(await ctx.map("all", plain, [1], on_failure="collect"), list[str | Exception])
    assert_type(await ctx.map("sum", hard, [1, 2], reduce=summed), int)
    assert_type(await ctx.map("sum", hard, [1, 2], reduce=summed, on_failure="collect"), int)
    assert_type(await ctx.map("options", plain.with_options(priority=1), [1]), list[str])
    await ctx.map("plain", plain, ["a"])  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    await ctx.map("plain", len, [1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await ctx.map("plain", plain, [1], on_failure="ignore")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    await ctx.map("plain", plain, [1], reduce=summed)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]


def executors() -> None:
    with app.blocking() as client, client.executor(queue=queue, timeout=5) as fleet:
        assert_type(fleet.submit(plain, 1).result(), str)
        assert_type(list(fleet.map(plain, [1, 2], chunksize=10)), list[str])
        fleet.submit(plain, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Format:
    """A format of a user's."""

    content_type = "text/csv"

    def load(self, data: bytes) -> list[str]:
        return []

    def dump(self, value: Any) -> bytes:
        return b""


class NoFormat:
    def load(self, data: bytes) -> list[str]:
        return []


@app.job(queue="formats", body=MsgPack)
async def packed(data: bytes, n: int = 1) -> int:
    return n


@app.job(queue="formats", body=Format())
async def formatted(lines: list[str]) -> None: ...


@app.job(queue="formats", body=CloudEvent(source="/shop", mode="binary"))
async def happened(event: CloudEventOf[int]) -> str:
    assert_type(event.data, int)
    return event.type


@app.job(queue="formats", body=Bytes)
async def raw(data: bytes) -> None: ...


@app.job(queue="formats", body=Text, batch=Batch(10, within=1))
async def texts(lines: list[str]) -> None: ...


app.job(queue="formats", body=NoFormat)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
CloudEvent(mode="batch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def formats() -> None:
    assert_type(await packed.request(b"", n=2), int)
    assert_type(await happened.request(CloudEventOf(1)), str)
    assert_type(await texts.later("a"), JobHandle[None])
    await raw.later("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await happened.later(CloudEventOf("x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
