"""Messages that are not JSON on real brokers: sent, received, retried, dead-lettered, replayed."""

import os
from typing import Any

import msgpack

from amqpjobs import App, Bytes, CloudEvent, CloudEventOf, MsgPack, Retry, Selection
from tests.support import carried_jobs
from tests.support.amqp import count, publish, stranger, take
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

RAW = bytes(range(256))


async def test_in_the_worker_and_in_a_process(broker: VirtualHost) -> None:
    """With compression, and with attributes that are headers."""
    settings = app_at(broker.url, compress="gzip", compress_above=64).settings
    with carried_jobs.app.placed(settings=settings):
        async with carried_jobs.app.lifespan(), working(carried_jobs.app):
            said: dict[str, Any] = await carried_jobs.packed_in_a_process.request({"raw": RAW})
            event = CloudEventOf(RAW, type="image")
            more = await carried_jobs.event_in_a_process.request(event)
    assert said["data"] == RAW[::-1]
    assert int(said["pid"]) != os.getpid()
    assert more == {"data": RAW[::-1], "type": b"image"}


def jobs_of(app: App, seen: list[Any]) -> Any:
    retry = Retry(attempts=2, first=0.1, jitter=False)

    @app.job(queue="packed", body=MsgPack, retry=retry)
    async def packed(order: dict[str, Any]) -> None:
        if order.get("fail", 0) > 0:
            raise ValueError("no")
        seen.append(order)

    @app.job(queue="events", body=CloudEvent)
    async def event(event: CloudEventOf[Any]) -> None:
        seen.append((event.id, event.data))

    @app.job(queue="raw", body=Bytes)
    async def raw(data: bytes) -> None:
        seen.append(data)

    return packed


async def test_what_other_programs_send(broker: VirtualHost) -> None:
    """MessagePack as kombu labels it, an event with headers, any bytes; what is wrong is put
    aside as it came."""
    app, seen = app_at(broker.url), list[Any]()
    jobs_of(app, seen)
    async with working(app), stranger(broker.url) as channel:
        order = msgpack.packb({"raw": RAW})
        kombu = {"content_type": "application/x-msgpack", "content_encoding": "binary"}
        await publish(channel, "packed", order, **kombu)
        headers = {f"cloudEvents_{n}": "1.0" for n in ("id", "source", "type", "specversion")}
        await publish(channel, "events", b"[1]", content_type="application/json", headers=headers)
        await publish(channel, "raw", RAW, content_type="image/png")
        await publish(channel, "packed", b"\x81", content_type="application/msgpack")
        await publish(channel, "events", b"{}", content_type="application/cloudevents+json")

        async def done() -> bool:
            dead = [await count(channel, f"{queue}.dead") for queue in ("packed", "events")]
            return len(seen) == 3 and dead == [1, 1]

        await until(done, "all have ended")
    assert sorted(seen, key=repr) == sorted([{"raw": RAW}, ("1.0", [1]), RAW], key=repr)
    letter = await take(broker.url, "packed.dead")
    assert (letter.body, letter.content_type) == (b"\x81", "application/msgpack")


async def test_a_dead_letter_is_replayed_in_its_format(broker: VirtualHost) -> None:
    """After retries, which copy it; edited, too."""
    app, seen = app_at(broker.url), list[Any]()
    packed = jobs_of(app, seen)
    async with app.lifespan(), working(app), stranger(broker.url) as channel:
        await packed.later({"raw": RAW, "fail": 1})
        await packed.later({"raw": b"", "fail": 2})

        async def dead() -> bool:
            return await count(channel, "packed.dead") == 2

        await until(dead, "both have failed")
        bench = app.dead_letters("packed")
        letters = sorted((await bench.look()).letters, key=lambda letter: letter.size)
        fixed = msgpack.packb({"raw": b"", "fail": 0})
        bench.check_body(letters[0], fixed)
        assert await bench.replace(letters[0], fixed)
        await until(lambda: len(seen) == 1, "the edited one is done")
        assert (await bench.replay(Selection())).done == 1

        async def dead_again() -> bool:
            return await count(channel, "packed.dead") == 1

        await until(dead_again, "the other one fails again")
    assert seen == [{"raw": b"", "fail": 0}]
    assert (await take(broker.url, "packed.dead")).content_type == "application/msgpack"
