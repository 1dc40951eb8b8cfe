"""The public API as type checkers see it. Checked by mypy and pyright, never run.

Each wrong call carries an ignore for both checkers; an ignore that is not needed is an error too,
so a wrong call that passed would be found.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, assert_type

from pydantic import BaseModel

from amqpjobs import INJECTED, App, Context, Depends, JobHandle, Message, Queue
from amqpjobs.state.status.values import JobStatus
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
        assert_type(client.later(plain.message(1)), JobHandle[str])
        assert_type(client.request(plain.message(1), timeout=5), str)


async def asked() -> None:
    assert_type(await thumbnail.request("a", factor=2.0), Size)
    assert_type(await thumbnail.with_options(timeout=5).request("a"), Size)
    assert_type(await threaded.request(3), str)
    assert_type(await Album(album_id=1).publish.request(loudly=True), int)
    assert_type(await Album(album_id=1).remember.request("x"), str)
    assert_type(await Mail("x").send.request("hello"), bool)
    assert_type(await app.request(thumbnail.message("a"), timeout=5), Size)
    assert_type(await app.request("queue", {"a": 1}, returns=Size), Size)
    assert_type(await app.request("queue", b"", type="t", timeout=1), Any)


@app.job(queue="plain", keep_result=timedelta(hours=1), track=True)
async def told(ctx: Context, count: int) -> int:
    await ctx.progress(0.5, "half")
    return count if ctx.last_progress is None else round(ctx.last_progress.fraction * count)


@app.job(queue="plain", keep_result=True)
def told_in_a_thread(ctx: Context) -> None:
    ctx.progress(0.5)


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
    with app.blocking() as client:
        client.later("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
