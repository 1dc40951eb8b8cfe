"""Jobs whose messages are not JSON, through everything that happens to a job."""

import json
import logging
import os
from typing import Annotated, Any

import aio_pika
import msgpack
import pytest

from amqpjobs import (
    App,
    Batch,
    Bytes,
    CloudEvent,
    CloudEventOf,
    Context,
    Every,
    Limit,
    MsgPack,
    Retry,
    Router,
    Selection,
    Text,
    Unique,
    group,
)
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings
from amqpjobs.testing import Testing
from tests.unit.testing import format_jobs

RAW = bytes(range(256))


def app_with(**settings: Any) -> App:
    given = Settings(url="amqp://nowhere.invalid", **settings)
    return App("shop", settings=given, retry=Retry(attempts=1))


async def publish(t: Testing, queue: str, body: bytes, **properties: Any) -> None:
    """As another program does."""
    async with await aio_pika.connect(t.url) as connection:
        channel = await connection.channel()
        message = aio_pika.Message(body, **properties)
        await channel.default_exchange.publish(message, routing_key=queue)


async def test_each_format_reaches_its_handler() -> None:
    """In the event loop, in a thread, in a batch; and a result is JSON in any case."""
    app, rows = app_with(), list[bytes]()

    @app.job(queue="work", body=MsgPack)
    async def packed(ctx: Context, data: bytes, n: int = 1) -> str:
        assert ctx.message.content_type == "application/msgpack"
        return f"{data == RAW} {n}"

    @app.job(queue="work", body=Text)
    def thread(line: str) -> str:
        return line[::-1]

    @app.job(queue="rows", body=Bytes, batch=Batch(10, within=0.1))
    async def batch(data: list[bytes]) -> None:
        rows.extend(data)

    async with app.testing() as t:
        assert await packed.request(RAW, n=2) == "True 2"
        assert await thread.request("äb") == "bä"
        await app.later_many([batch.message(RAW), batch.message(b"")])
        await t.advance(1)
        assert sorted(rows) == [b"", RAW]
        assert t.enqueued(packed)[0].arguments == {"data": RAW, "n": 2}


async def test_in_a_process_of_its_own() -> None:
    """The bytes go there as they are; what is in headers goes along."""
    async with format_jobs.app.testing() as t:
        pid, size = await format_jobs.packed.request({"raw": RAW})
        assert (pid != os.getpid(), size) == (True, 256)
        event = CloudEventOf(RAW, type="image")
        pid, kind, data = await format_jobs.event.request(event)
        assert (pid != os.getpid(), kind, data) == (True, "image", RAW)
        assert t.enqueued(format_jobs.event)[0].arguments["event"].data == RAW


async def test_middleware_sees_and_changes_the_arguments() -> None:
    """As those of JSON."""

    async def double(call_next: Any, ctx: Context) -> object:
        ctx.arguments["data"] *= 2
        return await call_next(ctx)

    app = app_with()

    @app.job(queue="work", body=MsgPack, middleware=[double])
    async def packed(data: bytes) -> int:
        return len(data)

    @app.job(queue="work", body=CloudEvent(mode="binary"), middleware=[double])
    async def event(data: int) -> int:
        return data

    async with app.testing():
        assert await packed.request(RAW) == 512
        assert await event.request(4) == 8


async def test_compressed_delayed_and_retried() -> None:
    """The copy of a message is what the message was."""
    app = app_with(compress="gzip", compress_above=10)
    seen: list[tuple[str | None, int]] = []

    @app.job(queue="work", body=MsgPack, retry=Retry(attempts=2, first=5, jitter=False))
    async def packed(ctx: Context, data: bytes) -> None:
        seen.append((ctx.message.content_type, len(data)))
        if ctx.attempt == 1:
            raise ValueError("again")

    async with app.testing() as t:
        await packed.with_options(delay=5).later(RAW)
        await t.advance(5)
        await t.advance(5)
        assert seen == [("application/msgpack", 256)] * 2


async def test_what_cannot_be_read_is_a_dead_letter_as_it_came(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the format raises: the worker goes on, and nothing of the data is shown."""
    app, good = app_with(), list[bytes]()

    class Odd:
        content_type = "application/x-odd"

        def load(self, data: bytes) -> bytes:
            if data == b"exit":
                raise SystemExit("secret")
            if data == b"odd":
                raise RuntimeError("secret")
            return data

        def dump(self, value: Any) -> bytes:
            return bytes(value)

    @app.job(queue="odd", body=Odd)
    async def odd(data: bytes) -> None:
        good.append(data)

    async with app.testing(raise_errors=False) as t:
        await t.run_until_idle()
        for body in (b"exit", b"odd", b"\xff"):
            await publish(t, "odd", body)
        await publish(t, "odd", b"x", content_type="application/json")
        await t.run_until_idle()
        assert good == [b"\xff"]
        assert [dead.reason for dead in t.dead()] == ["invalid"] * 3
        messages = sorted(dead.message for dead in t.dead())
        assert messages[0].startswith("content type 'application/json'; the format of the job, Odd")
        assert messages[1].endswith("odd: Odd cannot read the body: RuntimeError")
        assert messages[2].endswith("odd: Odd cannot read the body: SystemExit")
        found = await app.dead_letters("odd").look()
        assert sorted(letter.body for letter in found.letters) == [b"exit", b"odd", b"x"]
    assert "secret" not in caplog.text


async def test_a_dead_letter_is_replayed_and_edited_in_its_format() -> None:
    """With its content type and headers."""
    app, fails, seen = app_with(), [True], list[Any]()

    @app.job(queue="work", body=MsgPack)
    async def packed(data: bytes) -> None:
        if fails[0]:
            raise ValueError
        seen.append(data)

    @app.job(queue="work", body=CloudEvent(mode="binary"))
    async def event(event: CloudEventOf[int]) -> None:
        if fails[0]:
            raise ValueError
        seen.append((event.id, event.data))

    async with app.testing(raise_errors=False) as t:
        await packed.later(RAW)
        await event.later(CloudEventOf(1, id="7"))
        await event.later(CloudEventOf(2, id="8"))
        await t.run_until_idle()
        assert {"data": RAW} in [dead.arguments for dead in t.dead()]
        fails[0] = False
        bench = app.dead_letters("work")
        letters = {letter.body: letter for letter in (await bench.look()).letters}
        bench.check_body(letters[b"1"], b"5")
        assert await bench.replace(letters[b"1"], b"5")
        assert (await bench.replay(Selection())).done == 2
        await t.run_until_idle()
        assert sorted(seen, key=repr) == sorted([("7", 5), ("8", 2), RAW], key=repr)


async def test_callbacks_of_other_formats() -> None:
    """Bytes that are no text travel in the header, too; an empty body as well."""
    app, seen = app_with(), list[Any]()

    @app.job(queue="work", body=Bytes)
    async def raw(data: bytes) -> None:
        seen.append(data)

    @app.job(queue="work", body=CloudEvent(mode="binary"))
    async def event(event: CloudEventOf[int]) -> None:
        seen.append((event.source, event.data))

    @app.job(queue="work")
    async def plain() -> None: ...

    async with app.testing() as t:
        for message in (raw.message(RAW), raw.message(b""), event.message(CloudEventOf(3))):
            await plain.with_options(on_success=message).later()
        await t.run_until_idle()
        assert sorted(seen, key=repr) == sorted([RAW, b"", ("shop", 3)], key=repr)


async def test_limits_and_keys_read_the_format() -> None:
    """For a run, and for a job that ended before."""
    app, seen = app_with(), list[bytes]()

    @app.job(queue="work", body=MsgPack, unique=Unique(key="data"))
    async def packed(data: bytes, n: Annotated[int, Limit(1)]) -> None:
        seen.append(data)

    async with app.testing() as t:
        first = await packed.later(RAW, 1)
        again = await packed.later(RAW, 2)
        other = await packed.later(b"", 1)
        assert (again.existing, other.existing, first == again) == (True, False, True)
        await t.run_until_idle()
        assert sorted(seen) == [b"", RAW]


async def test_durable_jobs_call_and_map_jobs_of_other_formats(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A map sends each item by itself; a call that writes another id each time is the same call."""
    app = app_with()
    caplog.set_level(logging.WARNING)

    @app.job(queue="work", body=MsgPack)
    async def size(data: bytes) -> int:
        return len(data)

    @app.job(queue="work", body=CloudEvent)
    async def event(event: CloudEventOf[int]) -> int:
        return event.data + 1

    @app.job(queue="work", body=CloudEvent(mode="binary"))
    async def binary(data: int) -> int:
        return data + 1

    @app.job(queue="work", durable=True, keep_result=True)
    async def all_of(ctx: Context) -> list[int]:
        sizes = await ctx.map("sizes", size, [RAW, b"\xff", b""])
        more = await ctx.map("events", binary, [1, 2])
        one = await ctx.call("event", event, CloudEventOf(4))
        two = await ctx.call("raw", size, RAW)
        return [*sizes, *more, one, two]

    @app.job(queue="work", body=Text)
    async def text(line: str) -> None: ...

    @app.job(queue="work", durable=True)
    async def refused(ctx: Context, what: str) -> None:
        if what == "reduce":
            await ctx.map("sizes", size, [RAW], reduce=text)
        await ctx.call("raw", size, RAW, undo=text)

    async with app.testing(raise_errors=False) as t:
        handle = await all_of.later()
        await t.run_until_idle()
        assert await handle.result() == [256, 1, 0, 2, 3, 5, 256]
        assert "call has other arguments" not in caplog.text
        await refused.later("reduce")
        await refused.later("undo")
        await t.run_until_idle()
        assert {dead.message.partition(":")[0] for dead in t.dead()} == {
            "ctx.map('sizes')", "undo= of 'raw'",
        }  # fmt: skip


async def test_pipelines_begin_with_any_format_and_go_on_with_json() -> None:
    """The result that is passed on is JSON."""
    app = app_with()

    @app.job(queue="work", body=MsgPack)
    async def size(data: bytes) -> int:
        return len(data)

    @app.job(queue="work")
    async def total(sizes: list[int]) -> int:
        return sum(sizes)

    async with app.testing():
        assert await app.request(group(size.message(RAW), size.message(b"x")).then(total)) == 257
    with pytest.raises(ConfigurationError, match="leave body= out"):
        total.message([1]).then(size)


async def test_schedules_send_the_format() -> None:
    """One without arguments."""
    app, seen = app_with(), list[str | None]()

    @app.job(queue="work", body=MsgPack, schedule=Every(minutes=5))
    async def tick(ctx: Context) -> None:
        seen.append(ctx.message.content_type)

    async with app.testing() as t:
        await t.advance(301)
        assert seen[:1] == ["application/msgpack"]


async def test_strangers_messages() -> None:
    """As kombu writes MessagePack, and others CloudEvents."""
    app, seen = app_with(), list[Any]()

    @app.job(queue="packed", body=MsgPack)
    async def packed(order: dict[str, Any]) -> None:
        seen.append(order)

    @app.job(queue="events", body=CloudEvent)
    async def event(event: CloudEventOf[dict[str, int]]) -> None:
        seen.append((event.id, event.data))

    @app.job(queue="plain")
    async def plain(order: dict[str, Any]) -> None:
        seen.append(order)

    async with app.testing() as t:
        await t.run_until_idle()
        kombu = {"content_type": "application/x-msgpack", "content_encoding": "binary"}
        await publish(t, "packed", msgpack.packb({"raw": RAW}), **kombu)
        headers = {f"cloudEvents:{n}": "1.0" for n in ("id", "source", "type", "specversion")}
        await publish(t, "events", b'{"n": 1}', content_type="application/json", headers=headers)
        await publish(
            t, "plain", b"{}", content_type="application/vnd.api+json", content_encoding="utf-8"
        )
        await t.run_until_idle()
        assert sorted(seen, key=repr) == sorted([{"raw": RAW}, ("1.0", {"n": 1}), {}], key=repr)


async def test_webhooks_send_what_json_can_become() -> None:
    """Bytes and text are refused where the webhook is declared."""
    app = app_with()

    @app.job(queue="work", body=Bytes)
    async def raw(data: bytes) -> None: ...

    @app.job(queue="work", body=MsgPack)
    async def packed(data: dict[str, int]) -> None: ...

    app.hook("packed", job=packed)
    with pytest.raises(ConfigurationError, match="a request becomes JSON, and the job has"):
        app.hook("raw", job=raw)


async def test_an_app_that_includes_the_same_router_is_its_own_source() -> None:
    """Each app names itself in the events that it sends."""
    router = Router()

    @router.job(queue="work", body=CloudEvent)
    async def event(event: CloudEventOf[int]) -> str:
        return event.source

    first, second = App("first"), App("second")
    first.include(router)
    second.include(router)
    assert json.loads(event.message(CloudEventOf(1)).body)["source"] == "first"
