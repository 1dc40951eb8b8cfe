"""Several nodes, and several addresses of one name: which is tried when, and for how long."""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest

from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.rabbitmq import addresses
from amqpjobs.broker.rabbitmq.addresses import LEAST_SHARE, Place, Round
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker_url import Node, parse_broker_url
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import Settings, load_settings
from tests.support.brokers.certificates import certificates

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(handle: Handler, **options: Any) -> AsyncIterator[int]:
    """A server on the loopback; its port."""
    tasks: set[asyncio.Task[None]] = set()

    async def handled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await handle(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(handled, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the connection, and say nothing."""
    await asyncio.Event().wait()


async def refusing_port() -> int:
    """A port where nothing listens."""
    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.fixture
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes come in the order of the URL."""
    monkeypatch.setattr(addresses.random, "sample", lambda items, count: list(items))


def several(*ports: int, **settings: object) -> Settings:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return load_settings(url=f"amqp://guest:guest@{hosts}/", **settings)


@pytest.fixture
def short_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node may have less than three seconds."""
    monkeypatch.setattr(addresses, "LEAST_SHARE", 0.1)


@pytest.mark.usefixtures("in_order", "short_share")
async def test_the_next_node_is_tried_at_once_when_one_refuses_or_is_silent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The silent one has its share of the time: the pause before reconnecting comes after all."""
    async with serving(silence) as silent, Broker() as broker:
        settings = several(await refusing_port(), silent, broker.port, connect_timeout=1.5)
        link = Link(settings, "consume")
        began = time.monotonic()
        try:
            wire = await link.connect()
        finally:
            await link.close()
        assert 0.7 <= time.monotonic() - began < 1.6
        assert wire.place == Place(Node("127.0.0.1", broker.port), "127.0.0.1")
        assert link.node == wire.place.node
        told = [vars(r) for r in caplog.records if r.msg == "node unavailable, trying another"]
        assert [each["node"] for each in told] == [str(n) for n in settings.broker_url.nodes[:2]]
        assert "Connect call failed" in told[0]["error"]
        assert "no answer within 0.7" in told[1]["error"]


@pytest.mark.usefixtures("in_order", "short_share")
async def test_a_silent_node_with_tls_does_not_take_the_time_of_closing_it() -> None:
    """asyncio would wait 30 s for its last word."""
    made = certificates()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*made.server)
    async with serving(silence, ssl=context) as one, serving(silence, ssl=context) as other:
        url = f"amqps://guest:guest@127.0.0.1:{one},127.0.0.1:{other}/"
        settings = load_settings(url=url, tls_ca_file=made.authority, connect_timeout=2)
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"no answer within .*; .*no answer within"):
            await Link(settings, "consume").connect()
        assert time.monotonic() - began < 5


@pytest.mark.usefixtures("in_order")
async def test_the_error_names_every_node_and_no_password() -> None:
    """When none takes the connection."""
    ports = [await refusing_port(), await refusing_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    link = Link(load_settings(url=f"amqp://u:hunter2@{hosts}/v"), "consume")
    with pytest.raises(BrokerUnavailable, match="is it running") as caught:
        await link.connect()
    text = str(caught.value)
    assert caught.value.temporary
    assert f"amqp://u@{hosts}/v cannot be reached (127.0.0.1:{ports[0]}: " in text
    assert f"; 127.0.0.1:{ports[1]}: " in text
    assert "hunter2" not in text


@pytest.mark.usefixtures("in_order")
async def test_a_refused_login_is_not_tried_on_the_other_nodes() -> None:
    """Users are the same in all of a cluster, and each attempt is a failed login in its log."""
    async with Broker() as one, Broker() as other:
        url = f"amqp://guest:wrong@127.0.0.1:{one.port},127.0.0.1:{other.port}/"
        link = Link(load_settings(url=url), "consume")
        with pytest.raises(BrokerUnavailable, match="refused the login") as caught:
            await link.connect()
        assert not caught.value.temporary
        assert f"127.0.0.1:{one.port}/" in str(caught.value)


@pytest.mark.usefixtures("in_order")
async def test_a_virtual_host_that_is_missing_on_one_node_is_looked_for_on_the_next() -> None:
    """It may be down on one node alone."""
    async with Broker() as without, Broker(virtual_host="shop") as with_it:
        url = f"amqp://guest:guest@127.0.0.1:{without.port},127.0.0.1:{with_it.port}/shop"
        link = Link(load_settings(url=url), "consume")
        wire = await link.connect()
        assert wire.place.node.port == with_it.port
        await link.close()
        url = f"amqp://guest:guest@127.0.0.1:{without.port},127.0.0.1:{with_it.port}/none"
        with pytest.raises(BrokerUnavailable, match="check the virtual host") as caught:
            await Link(load_settings(url=url), "consume").connect()
        assert not caught.value.temporary


async def test_a_lost_node_is_tried_last() -> None:
    """A connection that was cut goes to another node, however often."""
    async with Broker() as one, Broker() as other:
        link = Link(several(one.port, other.port, reconnect_limit=0.01), "consume")
        moved: list[int] = []
        link.on_moved.append(lambda node: moved.append(node.port))
        running = asyncio.create_task(link.run())
        try:
            for _ in range(8):
                before = await link.up()
                before.protocol.abort()
                await before.lost.wait()
                after = await link.up()
                assert after.place != before.place
        finally:
            running.cancel()
            await asyncio.wait([running])
            await link.close()
        assert len(moved) == 9
        assert all(a != b for a, b in pairwise(moved))


async def order_of(url: str, lost: Place | None = None) -> list[Place]:
    attempts = Round(parse_broker_url(url).nodes, 10.0, lost)
    found = []
    while attempts.left:
        found.append(await attempts.next())
    return found


async def test_the_order_of_nodes_is_random() -> None:
    """Each of six, about equally often, so that workers spread over the cluster."""
    url = "amqp://127.0.0.1,127.0.0.2,127.0.0.3/"
    orders = Counter([tuple(p.address for p in await order_of(url)) for _ in range(600)])
    assert len(orders) == 6
    assert min(orders.values()) > 50
    lost = Place(Node("127.0.0.2", 5672), "127.0.0.2")
    assert {(await order_of(url, lost))[-1] for _ in range(50)} == {lost}


def resolving(monkeypatch: pytest.MonkeyPatch, *found: str) -> None:
    """`broker.example` has these addresses."""

    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        if host != "broker.example":
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def test_every_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others do not answer."""
    async with Broker() as broker:
        resolving(monkeypatch, "127.0.0.9", "127.0.0.8", "127.0.0.1", "127.0.0.1")
        for _ in range(5):
            settings = load_settings(url=f"amqp://guest:guest@broker.example:{broker.port}/")
            link = Link(settings, "consume")
            wire = await link.connect()
            assert str(wire.place) == f"broker.example:{broker.port} (127.0.0.1)"
            await link.close()


async def test_the_addresses_of_a_name_come_in_random_order_and_the_lost_one_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of the family that the machine prefers come first."""
    resolving(monkeypatch, "::1", "::2", "10.0.0.1", "10.0.0.2")
    url = "amqp://broker.example/"
    orders = {tuple(p.address for p in await order_of(url)) for _ in range(200)}
    assert {order[:2] for order in orders} == {("::1", "::2"), ("::2", "::1")}
    assert {order[2:] for order in orders} == {("10.0.0.1", "10.0.0.2"), ("10.0.0.2", "10.0.0.1")}
    lost = Place(Node("broker.example", 5672), "::2")
    assert {(await order_of(url, lost))[-1] for _ in range(20)} == {lost}


@pytest.mark.usefixtures("in_order")
async def test_a_name_that_has_no_address_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A node that is gone may be gone from the name server, too."""
    async with Broker() as broker:
        resolving(monkeypatch, "127.0.0.1")
        url = f"amqp://guest:guest@gone.example,broker.example:{broker.port}/"
        link = Link(load_settings(url=url), "consume")
        assert (await link.connect()).place.node.host == "broker.example"
        await link.close()
        with pytest.raises(BrokerUnavailable, match="Name or service not known"):
            await Link(load_settings(url="amqp://gone.example/"), "consume").connect()


async def test_each_node_has_its_share_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it for one; for several an equal part of what is left, and three seconds at least."""
    clock = [100.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0], raising=False)

    async def shares(url: str, seconds: float) -> list[float]:
        attempts = Round(parse_broker_url(url).nodes, seconds, None)
        found = []
        while attempts.left:
            await attempts.next()
            found.append(attempts.seconds)
            clock[0] += attempts.seconds
        return found

    assert await shares("amqp://127.0.0.1/", 10) == [10]
    assert await shares("amqp://127.0.0.1,127.0.0.2/", 10) == [5, 5]
    five = ",".join(f"127.0.0.{n}" for n in range(5))
    assert await shares(f"amqp://{five}/", 10) == [LEAST_SHARE] * 5
    assert await shares(f"amqp://{five}/", 1) == [1] * 5


async def test_the_log_names_the_node_that_a_worker_starts_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where there are several; of one it is known."""
    caplog.set_level("INFO", "amqpjobs.rabbitmq")
    async with Broker() as one, Broker() as other:
        for settings in (several(one.port, other.port), several(one.port)):
            link = Link(settings, "consume")
            await link.connect_within(0)
            await link.close()
        [said] = [vars(record)["node"] for record in caplog.records if record.msg == "connected"]
        assert said in {f"127.0.0.1:{broker.port}" for broker in (one, other)}


async def test_a_node_that_answers_at_one_address_has_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`localhost` has an address of IPv6 where RabbitMQ may not listen: a virtual host that is
    missing at the other one is an error that waiting does not help."""
    async with Broker() as broker:
        resolving(monkeypatch, "127.0.0.9", "127.0.0.1")
        here = f"broker.example:{broker.port}"
        for _ in range(4):
            link = Link(load_settings(url=f"amqp://guest:guest@{here}/none"), "consume")
            with pytest.raises(BrokerUnavailable, match="check the virtual host") as caught:
                await link.connect()
            assert not caught.value.temporary
            assert "127.0.0.9" not in str(caught.value)
        away = f"127.0.0.1:{await refusing_port()}"
        link = Link(load_settings(url=f"amqp://guest:guest@{here},{away}/none"), "consume")
        with pytest.raises(BrokerUnavailable, match="check the virtual host") as caught:
            await link.connect()
        assert caught.value.temporary, "the other node may have it"
        assert f"Others cannot be reached ({away}: " in str(caught.value)
