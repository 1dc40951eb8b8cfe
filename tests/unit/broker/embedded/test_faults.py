"""Faults on request, each under the real stack: nothing that was confirmed is lost."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator

import aio_pika
import pytest
from pamqp import commands

from amqpjobs.broker.embedded import Broker
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.unit.broker.embedded.rawclient import HungUpError, bare_connection, message, raw_client
from tests.unit.broker.embedded.stack import Stack, running


@pytest.fixture
async def working_stack(embedded: Broker) -> AsyncIterator[tuple[Stack, Worker]]:
    async with running(embedded, heartbeat=2) as (stack, worker):
        yield stack, worker


@pytest.fixture
def stack(working_stack: tuple[Stack, Worker]) -> Stack:
    return working_stack[0]


@pytest.fixture
def worker(working_stack: tuple[Stack, Worker]) -> Worker:
    return working_stack[1]


async def test_dropped_confirms(embedded: Broker) -> None:
    """The publisher says that it does not know; the jobs are there all the same."""
    async with running(embedded, publish_timeout=1) as (stack, _):
        await stack.send(0)
        embedded.faults.drop_confirms(2)
        await stack.send(1, 2, 3)
        assert (stack.unknown, stack.confirmed) == ({1, 2}, {0, 3})
        with embedded.faults.drop_confirms():
            await stack.send(4)
        await stack.send(5)
        assert stack.unknown == {1, 2, 4}
        await until(lambda: len(stack.done) == 6, "all six are done")
        await stack.nothing_lost()


async def test_delayed_confirms(embedded: Broker, stack: Stack) -> None:
    """They are waited for, and not taken for lost."""
    with embedded.faults.delay_confirms(0.3):
        before = time.monotonic()
        await stack.send(1)
        assert time.monotonic() - before >= 0.3
    await stack.send(2)
    assert stack.confirmed == {1, 2}
    await stack.nothing_lost()


async def test_refused_publishes(embedded: Broker, stack: Stack) -> None:
    """`basic.nack`: the broker has not got it, and the caller is told, or it is sent again."""
    embedded.faults.refuse_publishes(1)
    await asyncio.gather(*(stack.send(n) for n in range(10)), return_exceptions=True)
    assert len(stack.confirmed) >= 9
    await stack.nothing_lost()


async def test_a_cut_behind_a_frame_received(embedded: Broker, stack: Stack) -> None:
    """In the midst of a burst of publishes, wherever it falls."""
    for frames in (1, 2, 3, 50, 101):
        cut = embedded.faults.cut(after_frames=frames, name="publish")
        base = frames * 1000
        await asyncio.gather(*(stack.send(base + n) for n in range(40)))
        await until(lambda cut=cut: not cut.active, "it was cut")
        await stack.nothing_lost()


async def test_a_cut_behind_a_frame_sent(embedded: Broker, stack: Stack) -> None:
    """Within deliveries: what the worker has not got is delivered again."""
    for frames in (1, 2, 3, 10, 31):
        cut = embedded.faults.cut(after_frames=frames, direction="sent", name="consume")
        base = frames * 1000
        await asyncio.gather(*(stack.send(base + n) for n in range(40)))
        await until(lambda cut=cut: not cut.active, "it was cut")
        await stack.nothing_lost()


async def test_a_cut_is_exact(embedded: Broker) -> None:
    """So many frames, and then the end of the stream."""
    async with raw_client(embedded.url) as client:
        cut = embedded.faults.cut(after_frames=2, direction="sent")
        client.say(*[commands.Basic.Qos(prefetch_count=1)] * 5)
        await client.hear(commands.Basic.QosOk)
        await client.hear(commands.Basic.QosOk)
        with pytest.raises(HungUpError):
            await client.hear_frame()
        assert not cut.active
    async with raw_client(embedded.url) as client:
        await client.ask(commands.Queue.Declare(queue="q"), commands.Queue.DeclareOk)
        embedded.faults.cut(after_frames=4)  # one message, and the method of the next
        client.say(*message("q", b"1"), *message("q", b"2"))
        await client.hung_up()
    assert embedded.virtual_host.queues["q"].ready == 1
    with pytest.raises(ValueError, match="the first frame is number 1"):
        embedded.faults.cut(after_frames=0)


async def test_all_connections_cut(embedded: Broker, stack: Stack, worker: Worker) -> None:
    """At once, while jobs run: they are run again elsewhere, or here."""
    stack.go.clear()
    await stack.send(*range(5))
    await until(lambda: stack.started, "jobs run")
    assert embedded.faults.cut_now() >= 2
    stack.go.set()
    await stack.send(*range(5, 10))
    await stack.nothing_lost()
    assert worker.ready


async def test_a_black_hole(embedded: Broker, stack: Stack) -> None:
    """Nothing comes back, heartbeats neither; afterwards the stack finds its way."""
    await stack.send(0)
    with embedded.faults.black_hole():
        sending = asyncio.create_task(stack.send(*range(1, 6)))
        async with bare_connection(embedded.port) as client:
            client.write(b"AMQP\0\0\x09\x01")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await client.reader.read(1)
        assert stack.confirmed == {0}
    await sending
    assert stack.confirmed == set(range(6))
    await stack.nothing_lost()


async def test_a_black_hole_is_noticed(plain: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """By the heartbeats that do not come; nobody has to cut anything."""
    with caplog.at_level(logging.INFO, "amqpjobs"):
        async with running(plain, heartbeat=2) as (stack, _):
            hole = plain.faults.black_hole("publish")
            await until(lambda: "connection lost" in caplog.text, "it is noticed", 30)
            hole.end()
            await stack.send(1)
            await stack.nothing_lost()


async def test_cancelled_consumers(embedded: Broker, stack: Stack, worker: Worker) -> None:
    """The worker consumes again."""
    await stack.send(0)
    await stack.nothing_lost()
    assert embedded.faults.cancel_consumers("work") == 1
    queue = embedded.virtual_host.queues["work"]
    await until(lambda: len(queue.consumers) == 1, "it consumes again")
    await stack.send(1, 2)
    await stack.nothing_lost()


async def test_an_alarm(embedded: Broker, stack: Stack) -> None:
    """Who publishes waits; who consumes goes on; afterwards all arrives, once."""
    await stack.send(*range(3))
    fault = embedded.faults.block("low on disk")
    sending = asyncio.create_task(stack.send(*range(3, 6)))
    await until(lambda: any(c.alarm.stalled for c in embedded.connections), "it is blocked")
    async with raw_client(embedded.url) as client:
        client.say(*message("work.dead", b"{}"))
        blocked = await client.hear(commands.Connection.Blocked)
        assert blocked.reason == "low on disk"
        client.say(commands.Queue.Purge(queue="work.dead"))
        embedded.faults.unblock()
        await client.hear(commands.Connection.Unblocked)
        assert (await client.hear(commands.Queue.PurgeOk)).message_count == 1
    assert not fault.active
    await sending
    assert stack.confirmed == set(range(6))
    await stack.nothing_lost()
    assert Counter(stack.done) == Counter(range(6))


async def test_consuming_goes_on_in_an_alarm(embedded: Broker, stack: Stack) -> None:
    """Acks are no publishes."""
    stack.go.clear()
    await stack.send(*range(5))
    with embedded.faults.block():
        stack.go.set()
        await stack.nothing_lost()


async def test_redelivered_messages(
    embedded: Broker, stack: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """Each comes twice and is settled twice: run again, or superseded where it still runs."""
    stack.go.clear()
    await stack.send(*range(3))
    await until(lambda: len(stack.started) == 3, "they run")
    assert embedded.faults.redeliver("work") == 3
    stack.go.set()
    await stack.nothing_lost()
    superseded = lambda: caplog.text.count("job superseded")  # noqa: E731
    await until(lambda: len(stack.done) + superseded() == 6, "all six have ended")


async def test_a_redelivered_message_comes_twice(plain: Broker) -> None:
    """To who does not look: marked as redelivered; both tags can be acknowledged, once."""
    async with raw_client(plain.url) as client:
        await client.declare("q")
        client.say(*message("q", b"text"), commands.Basic.Consume(queue="q"))
        await client.hear(commands.Basic.ConsumeOk)
        first = await client.delivered()
        assert plain.faults.redeliver("q") == 1
        second = await client.delivered()
        assert [(d.delivery_tag, d.redelivered) for d in (first, second)] == [(1, False), (2, True)]
        client.say(commands.Basic.Ack(1), commands.Basic.Ack(2))
        assert await client.ready("q") == 0
        queue = plain.virtual_host.queues["q"]
        assert (queue.ready, queue.unacked) == (0, 0)
        client.say(commands.Basic.Ack(1))
        assert await client.refused(commands.Channel.Close) == (
            406,
            "PRECONDITION_FAILED - unknown delivery tag 1",
        )


def test_a_queue_that_is_not_there_is_named() -> None:
    """And those that are."""
    broker = Broker()
    for fault in (broker.faults.redeliver, broker.faults.cancel_consumers):
        with pytest.raises(LookupError, match=r"no queue 'works': \[\]"):
            fault("works")


@pytest.mark.parametrize("code", [200, 406])
async def test_closed_channels(embedded: Broker, stack: Stack, code: int) -> None:
    """The code and the words are those that were asked for; nothing is lost."""
    stack.go.clear()
    await stack.send(*range(3))
    async with raw_client(embedded.url) as client:
        embedded.faults.close_channels(code, "ON_PURPOSE - a test")
        assert await client.refused(commands.Channel.Close) == (code, "ON_PURPOSE - a test")
    stack.go.set()
    await stack.send(*range(3, 6))
    await stack.nothing_lost()


async def test_closed_connections(embedded: Broker, stack: Stack) -> None:
    """As an operator closes them."""
    stack.go.clear()
    await stack.send(*range(3))
    count = len(embedded.connections)
    assert embedded.faults.close_connections(320, "CONNECTION_FORCED - a test") == count
    stack.go.set()
    await stack.send(*range(3, 6))
    await stack.nothing_lost()


async def test_slow_reads(embedded: Broker, stack: Stack) -> None:
    """A publisher gets ahead of the broker, and nothing gets lost between them."""
    with embedded.faults.slow_reads(20_000, "publish"):
        before = time.monotonic()
        await asyncio.gather(*(stack.send(n) for n in range(40)))
        assert time.monotonic() - before > 0.2
        rest = [asyncio.create_task(stack.send(n)) for n in range(40, 80)]
        await asyncio.sleep(0)
    await asyncio.gather(*rest)
    assert len(stack.confirmed) == 80
    await stack.nothing_lost()


async def test_refused_connections(embedded: Broker, stack: Stack) -> None:
    """Nobody gets in; the stack tries again until it does."""
    await stack.send(0)
    with embedded.faults.refuse_connections():
        embedded.faults.cut_now()
        with pytest.raises(aio_pika.exceptions.AMQPConnectionError):
            await aio_pika.connect(embedded.url)
        sending = asyncio.create_task(stack.send(1, 2, 3))
        await until(lambda: not embedded.connections, "all are gone")
    await sending
    assert stack.confirmed == {0, 1, 2, 3}
    await stack.nothing_lost()


async def test_a_fault_ends_once_and_all_end_together(embedded: Broker) -> None:
    """With the block, by hand, or with all others."""
    faults = embedded.faults
    with faults.block() as block:
        block.end()
        assert not block.active
    faults.black_hole()
    faults.slow_reads(1)
    assert repr(faults) == "<Faults ['BlackHole', 'SlowReads']>"
    faults.end()
    assert repr(faults) == "<Faults []>"
    async with raw_client(embedded.url):
        pass


def test_faults_may_be_asked_for_from_another_thread() -> None:
    """As synchronous tests do it."""
    with Broker.in_thread() as broker, broker.faults.refuse_connections():
        assert broker.faults.cut_now() == 0
        assert not broker.call(lambda: broker.connections)


async def test_a_connection_that_is_held_up_can_be_closed(embedded: Broker) -> None:
    """The client's answer to the close is read behind what it had sent, which is dropped."""
    async with raw_client(embedded.url) as client:
        await client.declare("work")
        with embedded.faults.block():
            client.say(*message("work", b"one"), *message("work", b"two"))
            await client.hear(commands.Connection.Blocked)
            embedded.faults.close_connections(320, "over")
            assert await client.refused() == (320, "over")
            client.say(*message("work", b"three"))
            client.say(commands.Connection.CloseOk(), channel=0)
            await client.hung_up()
            await until(lambda: not embedded.connections, "it is gone", timeout=5)
