"""The embedded broker as a whole: where it listens, what it says, and that it leaves nothing."""

import asyncio
import logging
import socket
import threading

import aio_pika
import pytest
from pamqp import commands

from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.embedded.clock import ManualClock
from tests.unit.broker.embedded.rawclient import bare_connection, message, raw_client


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.0.2.1", "example.org", "::"])
def test_it_listens_for_this_machine_alone(host: str) -> None:
    """The error says what it is for, and what is for others."""
    with pytest.raises(ValueError, match=r"development and tests .* run RabbitMQ for others"):
        Broker(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_every_name_of_loopback_will_do(host: str) -> None:
    """And the URL leads there."""
    async with Broker(host=host) as broker, await aio_pika.connect(broker.url) as connection:
        assert not connection.is_closed


def test_an_unknown_version_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ValueError, match=r"3\.10, 4\.3"):
        Broker("3.9")


async def test_it_says_what_it_is_when_it_starts(caplog: pytest.LogCaptureFixture) -> None:
    """One line; no password in it."""
    with caplog.at_level(logging.INFO, "amqpjobs.embedded"):
        async with Broker("3.10", password="s3cret") as broker:
            [line] = caplog.records
    assert line.getMessage() == "embedded broker listens, not for production"
    assert (vars(line)["port"], vars(line)["emulates"]) == (broker.port, "RabbitMQ 3.10")
    assert "s3cret" not in str(vars(line))
    assert "s3cret" not in repr(broker)


async def test_it_has_a_login_of_its_own() -> None:
    """Odd characters included; another one does not get in."""
    async with Broker(user="us/er", password="p@ss:word") as broker:
        await (await aio_pika.connect(broker.url)).close()
        with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
            await aio_pika.connect(f"amqp://guest:guest@127.0.0.1:{broker.port}/")


async def test_it_tells_its_clients_that_it_stops(plain: Broker) -> None:
    """320, as an operator's shutdown; then the port is free, and no task is left."""
    async with raw_client(plain.url) as client:
        stopping = asyncio.create_task(plain.stop())
        assert await client.refused() == (
            320,
            "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
        )
        client.say(commands.Connection.CloseOk(), channel=0)
        await stopping
        await client.hung_up()
    assert not listens(plain.port)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_it_does_not_wait_for_clients_that_do_not_answer() -> None:
    """Nor for those that have not even logged in."""
    async with Broker() as broker, raw_client(broker.url), bare_connection(broker.port):
        async with asyncio.timeout(5):
            await broker.stop()
        assert broker.connections == []


async def test_it_may_be_stopped_twice_and_started_again(plain: Broker) -> None:
    """On the same port, with what it held."""
    port = plain.port
    async with raw_client(plain.url) as client:
        declare = commands.Queue.Declare(queue="q", durable=True)
        await client.ask(declare, commands.Queue.DeclareOk)
        client.say(*message("q", b"kept", delivery_mode=2))
        assert await client.ready("q") == 1
    await plain.stop()
    await plain.stop()
    await plain.start()
    assert plain.port == port
    async with raw_client(plain.url) as client:
        assert await client.ready("q") == 1


async def test_its_time_can_be_moved() -> None:
    """A message that expires in an hour is a dead letter at once; heartbeats do not mind."""
    clock = ManualClock()
    dead = {"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "amq.fanout"}
    async with Broker(clock=clock) as broker, raw_client(broker.url, heartbeat=10) as client:
        await client.declare("waiting", arguments=dead)
        await client.declare("dead")
        client.say(commands.Queue.Bind(queue="dead", exchange="amq.fanout"))
        await client.hear(commands.Queue.BindOk)
        client.say(*message("waiting", b"late"), commands.Basic.Consume(queue="dead"))
        await client.hear(commands.Basic.ConsumeOk)
        clock.advance(3599)
        assert await client.ready("waiting") == 1
        clock.advance(1)
        assert (await client.delivered()).exchange == "amq.fanout"


def test_it_runs_in_a_thread_for_code_that_is_not_asyncio() -> None:
    """Blocking clients; and `call` looks at it where it runs."""
    with Broker.in_thread("3.10", user="me") as broker:
        assert broker.call(lambda: threading.current_thread().name) == "amqpjobs embedded broker"
        assert broker.call(lambda: broker.call(lambda: list(broker.connections))) == []
        with socket.create_connection(("127.0.0.1", broker.port)) as client:
            client.sendall(b"AMQP\0\0\x09\x01")
            assert client.recv(1) == b"\1"
    assert not listens(broker.port)
    assert not [t for t in threading.enumerate() if "embedded" in t.name]


def test_a_thread_ends_with_an_error_of_its_block() -> None:
    """And the error is the block's."""
    with pytest.raises(ZeroDivisionError), Broker.in_thread():
        raise ZeroDivisionError
    assert not [t for t in threading.enumerate() if "embedded" in t.name]


def test_a_port_that_is_taken_is_an_error(unused_tcp_port: int) -> None:
    """And leaves no thread."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", unused_tcp_port))
        other.listen()
        with pytest.raises(OSError, match="in use"), Broker.in_thread(port=unused_tcp_port):
            pass
    assert not [t for t in threading.enumerate() if "embedded" in t.name]


async def open_vhost(broker: Broker, login: str, vhost: str) -> aio_pika.abc.AbstractConnection:
    return await aio_pika.connect(f"amqp://{login}@127.0.0.1:{broker.port}/{vhost}")


async def test_any_user_and_virtual_host_if_it_is_told_so() -> None:
    """Each virtual host is one of its own, made when it is opened first, and kept."""
    async with Broker(accept="any") as broker:
        async with await open_vhost(broker, "ada:secret", "shop") as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("work", durable=True)
            message = aio_pika.Message(b"job", user_id="ada")
            await channel.default_exchange.publish(message, "work")
        async with await open_vhost(broker, "bob:other", "") as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity, match="vhost '/'"):
                await channel.get_queue("work")
        async with await open_vhost(broker, "bob:other", "shop") as connection:
            channel = await connection.channel()
            with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity, match="vhost 'shop'"):
                await channel.get_queue("missing")
            queue = await (await connection.channel()).get_queue("work")
            assert (await queue.get(no_ack=True)).body == b"job"
        assert sorted(broker.virtual_hosts) == ["/", "shop"]


async def test_a_virtual_host_of_another_name() -> None:
    """The URL leads to it, odd characters included; there is no other."""
    async with Broker(virtual_host="a/b c") as broker:
        await (await aio_pika.connect(broker.url)).close()
        assert broker.vhost_named("/") is None
        assert list(broker.virtual_hosts) == ["a/b c"]


def test_what_it_accepts_is_named_or_any() -> None:
    """Another word is refused with both."""
    with pytest.raises(ValueError, match="choose 'named' or 'any'"):
        Broker(accept="all")  # type: ignore[arg-type]


async def test_localhost_is_both_addresses_at_one_port() -> None:
    """As clients look it up: IPv6 first, or IPv4 alone."""
    async with Broker(host="localhost") as broker:
        for host in ("127.0.0.1", "[::1]"):
            url = f"amqp://guest:guest@{host}:{broker.port}/"
            await (await aio_pika.connect(url)).close()
        assert broker.url == f"amqp://guest:guest@127.0.0.1:{broker.port}/"
    assert not listens(broker.port)


async def test_a_port_that_is_taken_on_one_address_is_taken() -> None:
    """It does not listen on half of localhost; a free port is one that is free on both."""
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            await Broker(host="localhost", port=port).start()
        assert not listens(port)


async def ignored(message: object) -> None:
    """A consumer that does nothing."""


async def test_faults_find_a_queue_in_its_virtual_host() -> None:
    """Whichever that is."""
    async with Broker(accept="any") as broker:
        async with await open_vhost(broker, "ada:secret", "shop") as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("work", durable=True)
            await queue.consume(ignored, no_ack=True)
            assert broker.faults.cancel_consumers("work") == 1
            assert broker.faults.redeliver("work") == 0
        with pytest.raises(LookupError, match=r"no queue 'works': \['work'\]"):
            broker.faults.cancel_consumers("works")
