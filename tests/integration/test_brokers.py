"""The private RabbitMQ nodes do what the other tests take for granted."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused

from tests.support.brokers.broker_server import ManagementError, VirtualHost, poll
from tests.support.brokers.brokers import Broker, free_ports


@asynccontextmanager
async def channel(url: str) -> AsyncIterator[AbstractChannel]:
    """A channel with confirms on a connection of its own."""
    connection = await aio_pika.connect(url, timeout=10)
    async with connection:
        yield await connection.channel()


async def quorum_queue(on: AbstractChannel, name: str) -> AbstractQueue:
    """Declare a durable quorum queue."""
    return await on.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"})


async def publish(on: AbstractChannel, queue: str, body: bytes) -> None:
    """Publish a persistent message, and wait for the broker's confirm."""
    message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
    await on.default_exchange.publish(message, routing_key=queue, timeout=10)


async def test_every_version_takes_and_gives_a_message(broker: VirtualHost) -> None:
    """Declare a quorum queue, publish confirmed, get and ack."""
    async with channel(broker.url) as open_channel:
        queue = await quorum_queue(open_channel, "work")
        await publish(open_channel, "work", b"one")
        message = await queue.get(timeout=10)
        assert message is not None
        assert message.body == b"one"
        await message.ack()


def test_the_version_is_the_servers_own(broker: VirtualHost) -> None:
    """A node is what its name says."""
    assert broker.server.server_version().startswith(f"{broker.version}.")


@pytest.mark.parametrize("turn", ["first", "second"])
async def test_a_test_never_sees_what_another_left(broker: VirtualHost, turn: str) -> None:
    """Both turns declare the same queue and leave a message: each finds it new and empty."""
    async with channel(broker.url) as open_channel:
        queue = await quorum_queue(open_channel, "leftovers")
        assert queue.declaration_result.message_count == 0, turn
        await publish(open_channel, "leftovers", b"left")


async def test_a_user_may_do_what_it_is_permitted(broker: VirtualHost) -> None:
    """A user without the right to configure is refused a declaration, and may publish."""
    broker.server.add_user("reader", "secret")
    try:
        broker.server.set_permissions("reader", broker.name, configure="^$")
        parts = urlsplit(broker.url)
        url = parts._replace(netloc=f"reader:secret@{parts.hostname}:{parts.port}").geturl()
        async with channel(broker.url) as open_channel:
            await quorum_queue(open_channel, "work")
        async with channel(url) as open_channel:
            await publish(open_channel, "work", b"one")
            with pytest.raises(ChannelAccessRefused):
                await open_channel.declare_queue("other", durable=True)
    finally:
        broker.server.delete_user("reader")


async def test_a_killed_node_comes_back_with_its_messages(own_broker: Broker) -> None:
    """SIGKILL, start again: the same address, and the confirmed message is there."""
    async with channel(own_broker.url) as open_channel:
        await quorum_queue(open_channel, "durable")
        await publish(open_channel, "durable", b"kept")
        own_broker.kill()
    assert not own_broker.is_ready()
    own_broker.start()
    async with channel(own_broker.url) as open_channel:
        queue = await quorum_queue(open_channel, "durable")
        message = await queue.get(timeout=10)
        assert message is not None
        assert message.body == b"kept"


async def test_a_healed_node_is_empty_and_up(own_broker: Broker) -> None:
    """What the test before left is gone, also what this one kills is up again after it."""
    async with channel(own_broker.url) as open_channel:
        queue = await quorum_queue(open_channel, "durable")
        assert queue.declaration_result.message_count == 0
    own_broker.kill()


async def test_a_paused_node_is_silent_until_it_is_resumed(own_broker: Broker) -> None:
    """The socket stays open while nobody answers, and the confirm arrives after all."""
    async with channel(own_broker.url) as open_channel:
        await quorum_queue(open_channel, "work")
        own_broker.pause()
        sending = asyncio.create_task(publish(open_channel, "work", b"late"))
        done, _ = await asyncio.wait([sending], timeout=0.3)
        assert not done
        own_broker.resume()
        await sending


async def test_stop_app_closes_connections_and_start_app_serves_again(own_broker: Broker) -> None:
    """An orderly restart of the application, by rabbitmqctl."""
    connection = await aio_pika.connect(own_broker.url)
    closed = asyncio.Event()
    connection.close_callbacks.add(lambda *_: closed.set())
    await asyncio.to_thread(own_broker.stop_app)
    await asyncio.wait_for(closed.wait(), 10)
    assert not own_broker.is_ready()
    await asyncio.to_thread(own_broker.start_app)
    async with channel(own_broker.url) as open_channel:
        await quorum_queue(open_channel, "again")


async def test_two_nodes_do_not_see_each_other(
    own_broker_43: Broker, new_broker: Callable[[str], Broker]
) -> None:
    """A queue on one is not on the other, and neither knows the other as a cluster's member."""
    other = new_broker("4.3")
    async with channel(own_broker_43.url) as open_channel:
        await quorum_queue(open_channel, "here")
    with pytest.raises(ManagementError, match="404"):
        other.api("GET", "/queues/%2F/here")
    for node in (own_broker_43, other):
        assert [member["name"] for member in node.api("GET", "/nodes")] == [node.nodename]
        assert other.nodename != own_broker_43.nodename


def test_a_killed_session_leaves_no_node(brokers: object, tmp_path: Path) -> None:
    """SIGKILL the process that started a node: the node ends, and its data folder goes."""
    program = [sys.executable, "-m", "tests.support.brokers.brokers", "4.3", "--", "cat"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        program, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as session:
        assert session.stderr is not None
        assert b"RabbitMQ 4.3" in session.stderr.readline()
        nodes = list(tmp_path.glob("amqpjobs-broker-*"))
        assert len(nodes) == 1
        session.send_signal(signal.SIGKILL)
        session.wait(10)
        assert poll(lambda: not nodes[0].exists(), 30.0)
        assert poll(
            lambda: not any(_mentions(entry, nodes[0]) for entry in Path("/proc").glob("[0-9]*")),
            30.0,
        )


def _mentions(process: Path, folder: Path) -> bool:
    try:
        return str(folder).encode() in (process / "environ").read_bytes()
    except OSError:
        return False


def test_no_other_process_is_given_a_port_that_was_given_here() -> None:
    """Also while nothing listens on it: RabbitMQ would start without that listener, and say so in
    its log alone."""
    [port] = free_ports(1)
    code = f"from tests.support.brokers.brokers import _reserve; print(_reserve({port}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
