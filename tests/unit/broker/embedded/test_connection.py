"""Connections and channels of the embedded broker: frames in every way they can come."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from pamqp import body, commands, frame, header
from pamqp.heartbeat import Heartbeat

from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.embedded.server.connection import UNREAD_MOST, WRITE_HIGH
from tests.support.waiting import until
from tests.unit.broker.embedded.rawclient import (
    GREETING,
    RawClient,
    bare_connection,
    message,
    raw_client,
)

Basic, Channel, Connection = commands.Basic, commands.Channel, commands.Connection
Queue, Confirm, Tx = commands.Queue, commands.Confirm, commands.Tx


def session(text: bytes) -> bytes:
    """All that a client says to declare a queue, publish to it, and get the message."""
    frames = [
        (0, Connection.StartOk({"connection_name": "split"}, "PLAIN", "\0guest\0guest", "en_US")),
        (0, Connection.TuneOk(10, 8192, 0)),
        (0, Connection.Open("/")),
        (1, Channel.Open()),
        (1, Queue.Declare(queue="q", exclusive=True)),
        *((1, each) for each in message("q", text[:8000])[:1]),
        (1, header.ContentHeader(body_size=len(text), properties=Basic.Properties(priority=3))),
        *((1, body.ContentBody(text[at : at + 8000])) for at in range(0, len(text), 8000)),
        (0, Heartbeat()),
        (1, Basic.Get(queue="q", no_ack=True)),
    ]
    return GREETING + b"".join(frame.marshal(each, channel) for channel, each in frames)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100, 4096, 100_000])
async def test_frames_may_come_in_pieces_of_any_size(plain: Broker, size: int) -> None:
    """The connection's parser is fed by hand, for sockets cut as they like."""
    text = bytes(range(256)) * 80
    async with bare_connection(plain.port) as client:
        await until(lambda: plain.connections, "it is connected")
        [connection] = plain.connections
        data = session(text)
        for at in range(0, len(data), size):
            connection.data_received(data[at : at + size])
        for kind in (
            Connection.Start,
            Connection.Tune,
            Connection.OpenOk,
            Channel.OpenOk,
            Queue.DeclareOk,
            Basic.GetOk,
        ):
            await client.hear(kind)
        found = await client.hear(header.ContentHeader)
        assert found.properties.priority == 3
        pieces = [await client.hear(body.ContentBody) for _ in range(3)]
        assert b"".join(piece.value for piece in pieces) == text
        assert max(len(piece.value) for piece in pieces) == 8192 - 8


@pytest.mark.parametrize("greeting", [b"HTTP/1.1", b"AMQP\0\1\0\0", b"AMQP\0\0\x08\0"])
async def test_another_protocol_is_answered_with_the_one_it_speaks(
    plain: Broker, greeting: bytes
) -> None:
    """And with nothing more."""
    async with bare_connection(plain.port) as client:
        client.write(greeting)
        assert await client.reader.read() == GREETING


@pytest.fixture
async def client(plain: Broker) -> AsyncIterator[RawClient]:
    """A client with a channel."""
    async with raw_client(plain.url) as client:
        yield client


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"\1\0\1\0\0\0\4\0\x14\0\x0a\0", 501, "{invalid_frame_end_marker,0}"),
        (b"\1\0\1\0\2\0\1", 501, "{frame_too_large,131073,131064}"),
        (b"\5\0\1\0\0\0\0\xce", 501, "type 5, all octets = <<>>: unknown_frame"),
        (b"\x08\0\0\0\0\0\1x\xce", 501, "type 8, all octets = <<120>>: unknown_frame"),
        (b"\x08\0\1\0\0\0\0\xce", 505, "type 8, all octets = <<>>"),
        (b"\2\0\0\0\0\0\0\xce", 505, "type 2, all octets = <<>>"),
        (b"\2\0\1\0\0\0\0\xce", 505, "expected method frame, got non method frame instead"),
        (b"\3\0\7\0\0\0\0\xce", 505, "expected method frame, got non method frame instead"),
        (b"\1\0\1\0\0\0\4\0\x3c\0\x28\xce", 501, "cannot decode <<>>"),
        (b"\1\0\1\0\0\0\4\0\x3c\0\x50\xce", 501, "type 1"),
        (b"\1\0\1\0\0\0\2\0\x3c\xce", 501, "type 1"),
        (b"\1\0\1\0\0\0\4\0\x3c\1\1\xce", 503, "unimplemented method"),
        (b"\1\0\1\0\0\0\4\0\x3c\0\x0b\xce", 503, "unimplemented method"),
        (b"\1\0\7\0\0\0\4\0\x3c\0\x0b\xce", 504, "expected 'channel.open'"),
        (b"\1\0\0\0\0\0\4\0\x3c\0\x0b\xce", 504, "unexpected method in connection state running"),
    ],
)
async def test_a_frame_that_makes_no_sense_closes_the_connection(
    client: RawClient, data: bytes, code: int, text: str
) -> None:
    """With the code and the words of RabbitMQ."""
    client.write(data)
    found, words = await client.refused()
    assert found == code
    assert text in words
    client.say(Connection.CloseOk(), channel=0)
    await client.hung_up()


@pytest.mark.parametrize(
    ("frames", "code", "text"),
    [
        ([header.ContentHeader(body_size=1)] * 2, 505, "expected content body, got non content"),
        ([Queue.Declare()], 505, "expected content header for class 60, got non content header"),
        (
            [header.ContentHeader(body_size=1), body.ContentBody(b"xy")],
            501,
            "content body frame exceeds remaining content size",
        ),
        (
            [header.ContentHeader(body_size=2**40)],
            501,
            "content body size 1099511627776 exceeds maximum allowed size 536870912",
        ),
    ],
)
async def test_a_publish_without_its_content_closes_the_connection(
    client: RawClient, frames: list[object], code: int, text: str
) -> None:
    """What has to follow has to follow."""
    client.say(Basic.Publish(routing_key="q"), *frames)
    found, words = await client.refused()
    assert (found, text in words) == (code, True)


async def test_a_body_over_the_limit_is_refused_when_it_is_over(plain: Broker) -> None:
    """Its bytes are not kept; the channel is closed, the connection lives on."""
    async with raw_client(plain.url) as client:
        size = plain.profile.max_message_size + 1
        client.say(Basic.Publish(routing_key="q"), header.ContentHeader(body_size=size))
        chunk = body.ContentBody(bytes(131064))
        for _ in range(size // 131064):
            client.say(chunk)
            await client.writer.drain()
        client.say(body.ContentBody(bytes(size % 131064)))
        words = f"message size {size} is larger than configured max size {size - 1}"
        assert await client.refused(Channel.Close) == (406, f"PRECONDITION_FAILED - {words}")


async def test_a_channel_error_costs_the_channel_alone(client: RawClient) -> None:
    """What comes for it until the client knows is ignored; then its number is free."""
    await client.open_channel(2)
    client.say(Queue.Declare(queue="missing", passive=True))
    client.say(*message("missing", b"ignored"), Queue.Declare(queue="ignored"))
    close = await client.hear(Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 50, 10)
    client.say(Channel.CloseOk())
    await client.open_channel(1)
    await client.ask(Queue.Declare(queue="mine", exclusive=True), Queue.DeclareOk, 2)


async def test_both_may_close_a_channel_at_once(client: RawClient) -> None:
    """The client's close is answered though the broker has closed it already."""
    client.say(Queue.Declare(queue="missing", passive=True), Channel.Close(200, "", 0, 0))
    await client.hear(Channel.Close)
    await client.hear(Channel.CloseOk)
    client.say(Channel.CloseOk())
    await client.open_channel(1)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (Basic.Qos(prefetch_size=1), "prefetch_size!=0 (1)"),
        (Channel.Flow(active=False), "active=false"),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_what_it_does_not_do_is_refused(client: RawClient, method: object, text: str) -> None:
    """540, never accepted and ignored."""
    client.say(method)
    code, words = await client.refused()
    assert (code, text in words) == (540, True)


async def test_immediate_is_refused(client: RawClient) -> None:
    """As RabbitMQ does since 3.0."""
    client.say(Basic.Publish(routing_key="q", immediate=True), *message("q", b"x")[1:])
    assert await client.refused() == (540, "NOT_IMPLEMENTED - immediate=true")


async def test_a_user_id_has_to_be_true(client: RawClient) -> None:
    """That of the login, or none."""
    await client.declare("q")
    client.say(*message("q", b"x", user_id="guest"))
    assert await client.ready("q") == 1
    client.say(*message("q", b"x", user_id="other"))
    assert await client.refused(Channel.Close) == (
        406,
        "PRECONDITION_FAILED - user_id property set to 'other' but authenticated user was 'guest'",
    )


async def test_nothing_is_answered_to_who_wants_no_answer(client: RawClient) -> None:
    """Every method that has the choice."""
    client.say(
        Queue.Declare(queue="q", exclusive=True, nowait=True),
        commands.Exchange.Declare(exchange="e", exchange_type="fanout", nowait=True),
        commands.Exchange.Bind(destination="amq.fanout", source="e", nowait=True),
        commands.Exchange.Unbind(destination="amq.fanout", source="e", nowait=True),
        Queue.Bind(queue="q", exchange="e", nowait=True),
        Confirm.Select(nowait=True),
        Basic.Consume(queue="q", consumer_tag="c", nowait=True),
        Basic.Cancel(consumer_tag="c", nowait=True),
        Queue.Purge(queue="q", nowait=True),
        Queue.Delete(queue="q", nowait=True),
        commands.Exchange.Delete(exchange="e", nowait=True),
        Basic.Qos(prefetch_count=1),
    )
    await client.hear(Basic.QosOk)


async def test_consume_is_answered_before_the_first_delivery(client: RawClient) -> None:
    """Though the message has been waiting."""
    await client.declare("q")
    client.say(*message("q", b"text"), Basic.Consume(queue="q", consumer_tag="c"))
    await client.hear(Basic.ConsumeOk)
    delivery = await client.hear(Basic.Deliver)
    assert (delivery.consumer_tag, delivery.delivery_tag, delivery.redelivered) == ("c", 1, False)
    await client.hear(header.ContentHeader)
    assert (await client.hear(body.ContentBody)).value == b"text"
    client.say(Basic.Recover(requeue=True))
    await client.hear(Basic.RecoverOk)
    assert (await client.hear(Basic.Deliver)).redelivered


async def test_an_empty_message_has_no_body_frame(client: RawClient) -> None:
    """In both directions."""
    await client.declare("q")
    client.say(*message("q", b""), Basic.Get(queue="q"), Basic.Get(queue="q"))
    await client.hear(Basic.GetOk)
    assert (await client.hear(header.ContentHeader)).body_size == 0
    await client.hear(Basic.GetEmpty)


async def test_many_publishes_are_confirmed_by_few_frames(client: RawClient) -> None:
    """A return comes ahead of its confirm."""
    await client.declare("q")
    await client.ask(Confirm.Select(), Confirm.SelectOk)
    client.say(*(each for n in range(100) for each in message("q", b"%d" % n)))
    confirmed = frames = 0
    while confirmed < 100:
        confirmed = (await client.hear(Basic.Ack)).delivery_tag
        frames += 1
    assert frames < 50
    client.say(*message("nowhere", b"back", mandatory=True))
    returned = await client.hear(Basic.Return)
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
    await client.hear(header.ContentHeader)
    await client.hear(body.ContentBody)
    assert (await client.hear(Basic.Ack)).delivery_tag == 101


async def test_update_secret_is_answered(client: RawClient) -> None:
    """There is nothing that it would change."""
    secret = Connection.UpdateSecret("new", "why not")
    await client.ask(secret, Connection.UpdateSecretOk, 0)


async def test_a_mistake_of_the_broker_is_an_internal_error(
    plain: Broker,
    client: RawClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """541 for that connection, the traceback in the log; the broker goes on."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(type(plain.connections[0].channels[1].model), "declare_queue", fail)
    client.say(Queue.Declare(queue="q"))
    assert await client.refused() == (541, "INTERNAL_ERROR")
    assert "on purpose" in caplog.text
    async with raw_client(plain.url):
        pass


async def test_who_does_not_read_gets_no_more(plain: Broker) -> None:
    """The messages stay in the queue, and memory does not grow; they come when it reads."""
    async with raw_client(plain.url) as publisher, raw_client(plain.url) as lazy:
        await publisher.ask(Queue.Declare(queue="q", durable=True), Queue.DeclareOk)
        lazy.reader._transport.pause_reading()  # type: ignore[attr-defined]
        lazy.say(Basic.Consume(queue="q", no_ack=True))
        text = bytes(100_000)
        for _ in range(300):
            publisher.say(*message("q", text))
            await publisher.writer.drain()
        await publisher.ask(Basic.Qos(prefetch_count=0), Basic.QosOk)
        connection = plain.connections[1]
        assert connection.paused
        assert connection.out.waiting < WRITE_HIGH + 200_000
        assert await publisher.ready("q") > 100
        lazy.reader._transport.resume_reading()  # type: ignore[attr-defined]
        await lazy.hear(Basic.ConsumeOk)
        for _ in range(300):
            await lazy.hear(Basic.Deliver)
            await lazy.hear(header.ContentHeader)
            await lazy.hear(body.ContentBody)
        assert await publisher.ready("q") == 0


async def test_who_does_not_listen_is_not_listened_to(plain: Broker) -> None:
    """A publisher that takes none of its returns is read no more until it does."""
    async with raw_client(plain.url) as client:
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        [connection] = plain.connections
        frames = message("nowhere", bytes(100_000), mandatory=True)

        async def publish() -> None:
            for _ in range(600):
                client.say(*frames)
                await client.writer.drain()

        publishing = asyncio.create_task(publish())
        await until(lambda: "unread" in repr(connection.reading), "it is not read")
        assert connection.out.waiting < UNREAD_MOST + 500_000
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(600):
            await client.hear(Basic.Return)
            await client.hear(header.ContentHeader)
            await client.hear(body.ContentBody)
        await publishing
        assert "unread" not in repr(connection.reading)


async def test_a_client_that_is_silent_is_dropped(plain: Broker) -> None:
    """And what it held is given to another one."""
    async with raw_client(plain.url, heartbeat=1) as silent, raw_client(plain.url) as other:
        await other.ask(Queue.Declare(queue="q", durable=True), Queue.DeclareOk)
        other.say(*message("q", b"text"))
        await silent.ask(Basic.Get(queue="q"), Basic.GetOk)
        await silent.hung_up()
        get = await other.ask(Basic.Get(queue="q"), Basic.GetOk)
        assert get.redelivered


async def test_a_connection_gone_without_a_word_gives_all_back(plain: Broker) -> None:
    """Its unacknowledged messages, and its exclusive queues."""
    async with raw_client(plain.url) as other:
        await other.ask(Queue.Declare(queue="q", durable=True), Queue.DeclareOk)
        other.say(*message("q", b"text"))
        async with raw_client(plain.url) as gone:
            await gone.declare("theirs")
            await gone.ask(Basic.Get(queue="q"), Basic.GetOk)
        await until(lambda: len(plain.connections) == 1, "it is gone")
        assert (await other.ask(Basic.Get(queue="q"), Basic.GetOk)).redelivered
        assert "theirs" not in plain.virtual_host.queues


async def test_a_connection_that_was_closed_is_not_reset(client: RawClient, plain: Broker) -> None:
    """The end of the stream follows `connection.close-ok`, whatever the client had sent behind its
    `connection.close`, such as a heartbeat that was due."""
    await client.ask(Connection.Close(200, "", 0, 0), Connection.CloseOk, 0)
    for _ in range(3):
        client.say(Heartbeat(), channel=0)
        await client.writer.drain()
    assert await client.reader.read() == b""
    client.writer.close()
    await client.writer.wait_closed()
    await until(lambda: not plain.connections, "the broker has closed its side, too")


async def test_a_client_that_never_closes_its_side_is_left(
    client: RawClient, plain: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while."""
    monkeypatch.setattr("amqpjobs.broker.embedded.server.connection.LINGER", 0.05)
    await client.ask(Connection.Close(200, "", 0, 0), Connection.CloseOk, 0)
    await until(lambda: not plain.connections, "the broker has given it up")
