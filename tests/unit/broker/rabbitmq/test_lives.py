"""What is opened on each connection: again after a loss, with a pause after a failure."""

import asyncio

import pytest
from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq import lives
from amqpjobs.broker.rabbitmq.calls import close_channel
from amqpjobs.broker.rabbitmq.lives import Lives, pause, restart_pause, until_lost
from amqpjobs.errors import BrokerUnavailable, ConfigurationError
from tests.support.waiting import PATIENCE
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


class Fatal(Exception):
    """Another attempt would not help."""


class Bench:
    """A loop that opens a channel on each connection and uses it until it is lost."""

    def __init__(self, pause=0.0) -> None:
        self.link = Link()
        self.errors = []  # of the next attempts
        self.failed = []
        self.lost = []
        self.opened = 0
        self.pause = pause
        self.stopped = False
        self.body_error = None
        self.hangs = None
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        async for wire, channel in Lives(self._next_wire, self._open, self._on_failure):
            self.opened += 1
            self.lost.append(await until_lost(wire, channel))
            if self.body_error is not None:
                raise self.body_error

    async def _next_wire(self):
        return None if self.stopped else await self.link.up()

    async def _open(self, wire):
        if self.hangs is not None:
            self.hangs.set()
            try:
                await wire.lost.wait()
            except asyncio.CancelledError:
                raise RuntimeError("the channel was closed by the cancellation") from None
        if wire.lost.is_set():
            raise BrokerUnavailable("gone while opening")
        if self.errors:
            raise self.errors.pop(0)
        return await wire.channel()

    async def _on_failure(self, wire, error, failures):
        self.failed.append((wire.generation, str(error), failures))
        if isinstance(error, ConfigurationError):
            raise Fatal from error
        return self.pause

    async def end(self):
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.end()


async def test_each_connection_is_opened_on_once(bench):
    """It waits for a connection, and uses it until it is lost."""
    await turns()
    assert bench.opened == 0
    for count in (1, 2):
        wire = bench.link.connect()
        await turns()
        assert (bench.opened, len(wire.channels)) == (count, 1)
        bench.link.lose()
        await turns()
        assert bench.lost == ["gone"] * count


async def test_a_channel_that_is_lost_is_opened_again_on_its_connection(bench):
    """The connection is still there."""
    wire = bench.link.connect()
    await turns()
    wire.channels[0].refuse(aiormq_errors.ChannelClosed("closed by force"))
    await turns()
    assert (bench.lost, bench.opened, len(wire.channels)) == (["closed by force"], 2, 2)


async def test_failures_are_counted_until_it_could_be_opened(bench):
    """For a pause that grows with them."""
    bench.errors = [BrokerUnavailable("a"), OSError("b"), aiormq_errors.AMQPError("c")]
    wire = bench.link.connect()
    await turns(40)
    assert bench.failed == [(1, "a", 1), (1, "b", 2), (1, "c", 3)]
    assert bench.opened == 1
    bench.errors = [RuntimeError("d")]
    wire.channels[0].refuse(aiormq_errors.ChannelClosed())
    await turns(40)
    assert bench.failed[3:] == [(1, "d", 1)]
    assert bench.opened == 2


async def test_a_connection_that_is_lost_while_opening_is_a_failure(bench):
    """The pause ends with the connection: the next one is used at once."""
    bench.pause, bench.hangs = 1000.0, asyncio.Event()
    bench.link.connect()
    await bench.hangs.wait()
    bench.hangs = None
    bench.link.lose()
    await turns()
    assert bench.failed == [(1, "gone while opening", 1)]
    bench.link.connect()
    await turns()
    assert bench.opened == 1


async def test_a_refusal_that_is_raised_ends_the_loop(bench):
    """`failed` decides what is fatal."""
    bench.errors = [ConfigurationError("no permission")]
    bench.link.connect()
    with pytest.raises(Fatal) as raised:
        await bench.task
    assert str(raised.value.__cause__) == "no permission"


async def test_errors_that_no_broker_causes_are_raised(bench):
    """They are bugs, and another attempt would hide them."""
    bench.errors = [KeyError("bug")]
    bench.link.connect()
    with pytest.raises(KeyError):
        await bench.task
    assert bench.failed == []


async def test_errors_of_the_body_are_raised(bench):
    """Even those that lead to another attempt while opening."""
    bench.body_error = RuntimeError("bug")
    bench.link.connect()
    await turns()
    bench.link.lose()
    with pytest.raises(RuntimeError, match="bug"):
        await bench.task
    assert bench.failed == []


async def test_no_next_connection_ends_the_loop(bench):
    """Whoever stops ends it without an error."""
    bench.link.connect()
    await turns()
    bench.stopped = True
    bench.link.lose()
    await asyncio.wait([bench.task], timeout=PATIENCE)
    assert bench.task.result() is None


async def test_a_cancellation_while_opening_ends_the_loop(bench):
    """Even if aiormq makes an error of it."""
    bench.hangs = asyncio.Event()
    bench.link.connect()
    await bench.hangs.wait()
    bench.task.cancel()
    await asyncio.wait([bench.task], timeout=PATIENCE)
    assert bench.task.cancelled()
    assert bench.failed == []


@pytest.mark.parametrize("state", ["no connection", "in use", "pausing"])
async def test_a_cancellation_ends_the_loop(bench, state):
    """Wherever it waits."""
    if state == "pausing":
        bench.errors, bench.pause = [BrokerUnavailable("gone")], None
    if state != "no connection":
        bench.link.connect()
    await turns()
    bench.task.cancel()
    await asyncio.wait([bench.task], timeout=PATIENCE)
    assert bench.task.cancelled()


# --- until_lost ------------------------------------------------------------------------------


@pytest.fixture
async def wire():
    return Link().connect()


@pytest.fixture
async def channel(wire):
    return await wire.channel()


async def waits(wire, channel, *events):
    """A wait that has begun."""
    task = asyncio.ensure_future(until_lost(wire, channel, *events))
    await turns()
    assert not task.done()
    return task


async def test_the_reason_of_a_lost_connection_is_returned(wire, channel):
    """Also when its channels are closed with it, and when there was none."""
    task = await waits(wire, channel)
    channel.refuse(aiormq_errors.ChannelClosed("with the connection"))
    wire.lose()
    assert await task == "gone"
    wire.reason = None
    assert await until_lost(wire, channel) == "the connection was lost"


async def test_the_reason_of_a_closed_channel_is_returned(wire, channel):
    """What RabbitMQ said."""
    task = await waits(wire, channel)
    channel.refuse(aiormq_errors.ChannelPreconditionFailed("timeout"))
    assert await task == "timeout"


async def test_a_channel_that_is_closed_here_is_lost_too(wire, channel):
    """There is no error then."""
    await channel.close()
    assert await until_lost(wire, channel) == "the channel was closed"


async def test_an_event_ends_the_wait_without_a_reason(wire, channel):
    """Unless something was lost as well."""
    event = asyncio.Event()
    task = await waits(wire, channel, asyncio.Event(), event)
    event.set()
    assert await task is None
    wire.lose()
    assert await until_lost(wire, channel, event) == "gone"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_wait_that_is_over_leaves_no_task(wire, channel, cancelled):
    """Whether it ended or was cancelled; the channel stays open."""
    before = asyncio.all_tasks()
    event = asyncio.Event()
    task = await waits(wire, channel, event)
    task.cancel() if cancelled else event.set()
    await asyncio.wait([task])
    await turns()
    assert asyncio.all_tasks() == before
    assert not channel.is_closed


# --- pauses ----------------------------------------------------------------------------------


async def test_a_pause_ends_after_its_time(wire):
    """Without an error."""
    async with asyncio.timeout(PATIENCE):
        await pause(wire, 0.001)
    assert not wire.lost.is_set()


@pytest.mark.parametrize("seconds", [1000.0, None])
async def test_a_pause_ends_with_the_connection(wire, seconds):
    """None is for as long as it lasts."""
    task = asyncio.ensure_future(pause(wire, seconds))
    await turns()
    assert not task.done()
    wire.lose()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.result() is None


def test_restarts_are_further_apart_with_each_failure(monkeypatch):
    """Up to five times the first pause."""
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.5)
    assert [restart_pause(n) for n in (1, 2, 5, 100)] == [0.5, 1.0, 2.5, 2.5]


# --- closing a channel -----------------------------------------------------------------------


async def test_only_an_open_channel_is_closed(channel):
    """RabbitMQ ends the connection over the second close of a channel."""
    await close_channel(None, 1.0)
    for _ in range(2):
        await close_channel(channel, 1.0)
    assert channel.calls == ["close"]


@pytest.mark.parametrize("error", [None, RuntimeError("closed"), OSError("reset")])
async def test_a_channel_that_cannot_be_closed_is_left(channel, error):
    """RabbitMQ does not answer in time, or the connection is gone meanwhile."""

    async def close():
        if error is not None:
            raise error
        await asyncio.Event().wait()

    channel.close = close
    async with asyncio.timeout(PATIENCE):
        await close_channel(channel, 0.001)
