"""A cancellation that comes from aiormq is an error, and ours stays a cancellation."""

import ast
import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiormq import exceptions as aiormq_errors

import amqpjobs.broker.rabbitmq
from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.rabbitmq.calls import from_broker
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import load_settings
from tests.faults.proxy import Proxy
from tests.support.waiting import PATIENCE, until

FOLDER = Path(amqpjobs.broker.rabbitmq.__file__).parent

LIBRARY_CALLS = {
    "basic_qos", "basic_consume", "basic_cancel", "basic_get", "queue_declare", "queue_delete",
    "queue_bind", "exchange_declare", "exchange_bind", "connect",
}  # fmt: skip
CLOSED = {"underlay", "_underlay", "connection", "channel", "_channel"}
WRAPPERS = {"asyncio.shield", "asyncio.ensure_future"}
GUARDED_BY_CALLER = {"_declare", "_consume", "_end_consumer"}


async def waits(error: BaseException | None = None) -> None:
    """Wait for ever; when cancelled, raise that error, if there is one."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if error is not None:
            raise error from None
        raise


async def test_a_cancellation_by_the_library_is_an_error() -> None:
    """Nobody has cancelled the task."""
    inner = asyncio.ensure_future(waits())
    asyncio.get_running_loop().call_soon(inner.cancel)
    with pytest.raises(BrokerUnavailable), from_broker():
        await inner


@pytest.mark.parametrize(
    "error",
    [None, aiormq_errors.ChannelClosed(0, ""), RuntimeError("closed"), BrokerUnavailable("lost")],
)
async def test_a_cancellation_by_its_owner_ends_the_task(error: BaseException | None) -> None:
    """Also when the library raises an error of its own in its place."""

    async def body() -> None:
        with from_broker():
            await waits(error)

    task = asyncio.ensure_future(body())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()


async def test_a_cancellation_that_the_library_keeps_to_itself_is_raised() -> None:
    """aiormq may return from a call that was cancelled; the task would go on for ever."""
    went_on: list[int] = []

    async def swallows() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async def body() -> None:
        with from_broker():
            await swallows()
        went_on.append(1)

    task = asyncio.ensure_future(body())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
    assert went_on == []


async def test_a_timeout_stays_a_timeout() -> None:
    """Inside and outside of one."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            with from_broker():
                await waits()
    with pytest.raises(TimeoutError), from_broker():
        async with asyncio.timeout(0.01):
            await waits()


async def test_a_call_in_a_cleanup_is_guarded_too() -> None:
    """A task that was cancelled before, and closes a channel on its way out."""
    found: list[BaseException] = []

    async def body() -> None:
        try:
            await waits()
        finally:
            inner = asyncio.ensure_future(waits())
            asyncio.get_running_loop().call_soon(inner.cancel)
            try:
                with from_broker():
                    await inner
            except BrokerUnavailable as error:
                found.append(error)

    task = asyncio.ensure_future(body())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    assert task.cancelled()
    assert len(found) == 1


@asynccontextmanager
async def silent_broker() -> AsyncIterator[tuple[Link, Wire, Proxy]]:
    """A connection to a broker that says nothing from a moment on: `proxy.set`."""
    async with Broker() as broker, Proxy(broker.url) as proxy:
        link = Link(load_settings(url=proxy.url), "consume")
        wire = await link.connect()
        try:
            yield link, wire, proxy
        finally:
            proxy.heal()
            await link.close()


async def declared(wire: Wire) -> None:
    async with Declarer(wire) as declarer:
        await declarer.call(lambda channel: channel.queue_declare("q"))


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_an_answer_that_never_comes_ends_the_wait(how: str) -> None:
    """The connection is closed while the worker waits on it, by the other side or by aiormq. It
    may end the wait with a cancellation, and the task that waits goes on all the same."""
    async with silent_broker() as (link, wire, proxy):
        subscription = Subscription(link, "q", 1, lambda delivery: None, declared)
        running = asyncio.ensure_future(subscription.run())
        await subscription.started()
        proxy.set("down", stalled=True)
        asking = asyncio.ensure_future(subscription.answered())
        await until(lambda: proxy.frames["up"]["60.10"] >= 2, "it has asked")
        wire.protocol.abort() if how == "abort" else closing(wire.connection)
        await asyncio.wait([asking], timeout=PATIENCE)
        assert asking.done()
        assert not asking.cancelled()
        assert asking.result() is None
        running.cancel()
        await asyncio.wait([running])


_closings: set[Any] = set()


def closing(what: Any) -> None:
    """Close it without waiting for that."""
    task = asyncio.ensure_future(what.close())
    _closings.add(task)
    task.add_done_callback(_closings.discard)


def awaits(tree: ast.AST, guarded: bool, function: str) -> Iterator[tuple[ast.Await, bool, str]]:
    """Each await, whether it is inside of `with from_broker()`, and the function that it is in."""
    for node in ast.iter_child_nodes(tree):
        inside, name = guarded, function
        if isinstance(node, ast.AsyncFunctionDef):
            inside, name = False, node.name
        if isinstance(node, ast.With):
            inside = inside or any("from_broker" in ast.unparse(i) for i in node.items)
        if isinstance(node, ast.Await):
            yield node, inside, name
        yield from awaits(node, inside, name)


def calls_library(node: ast.Await) -> bool:
    call: ast.AST = node.value
    while isinstance(call, ast.Call) and ast.unparse(call.func) in WRAPPERS:
        call = call.args[0]
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return ast.unparse(call) in ("closing", "self._calling")  # calls that were begun before
    owner = ast.unparse(call.func.value).rpartition(".")[2]
    if call.func.attr in LIBRARY_CALLS and owner not in ("self", "link"):
        return True
    return call.func.attr in ("close", "channel") and owner in CLOSED


def test_every_call_of_the_libraries_is_guarded() -> None:
    """A new one is found here before a broker finds it."""
    seen, bare = 0, []
    for file in sorted(FOLDER.glob("*.py")):
        for node, guarded, function in awaits(ast.parse(file.read_text()), False, ""):
            if not calls_library(node):
                continue
            seen += 1
            if not guarded and function not in GUARDED_BY_CALLER:
                bare.append(f"{file.name}:{node.lineno} {ast.unparse(node)}")
    assert bare == []
    assert seen > 10
