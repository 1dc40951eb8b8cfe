"""F8: the network between amqpjobs and the broker breaks, in every way and in each direction.

Workers and publisher both go through the proxy. Heartbeats of 2 s, so that a silent peer is noticed
after 9 s instead of 48: aiormq waits for three and a little more.
"""

import asyncio
import time
from collections.abc import Callable
from random import Random

import pytest

from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.proxy import Direction, Proxy
from tests.faults.publishing import Publishing, finish, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost

pytestmark = pytest.mark.row("F8")

HEARTBEAT = 2
NOTICED = 3 * (HEARTBEAT + 1)
"""Seconds until a silent peer is taken for dead."""

BACK = NOTICED + 15
"""Seconds from the fault until every job is done: noticed, reconnected, redelivered."""

SLOWEST = 0.1
"""Seconds that a job may take when its bytes, and those of its acks, trickle one by one."""

C, P = 4, 8

Fault = Callable[[Proxy, Random], None]


def resets(proxy: Proxy, random: Random) -> None:
    proxy.reset_all()


def half_closes(direction: Direction) -> Fault:
    return lambda proxy, random: proxy.half_close_all(direction)


def cuts(direction: Direction, name: str, *, inside: bool) -> Fault:
    def cut(proxy: Proxy, random: Random) -> None:
        proxy.set(direction, cut_at=random.randint(0, 10), cut_name=name, cut_inside=inside)

    return cut


def slow(direction: Direction, **what: object) -> Fault:
    return lambda proxy, random: proxy.set(direction, **what)


FAULTS: dict[str, Fault] = {
    "reset": resets,
    "half-close up": half_closes("up"),
    "half-close down": half_closes("down"),
    "one byte up": slow("up", chop=True),
    "one byte down": slow("down", chop=True),
    "cut in a publish": cuts("up", "basic.publish", inside=True),
    "cut in a body up": cuts("up", "body", inside=True),
    "cut in an ack up": cuts("up", "basic.ack", inside=True),
    "cut in an ack down": cuts("down", "basic.ack", inside=True),
    "cut in a delivery": cuts("down", "basic.deliver", inside=True),
    "cut in a body down": cuts("down", "body", inside=True),
    "cut before an ack up": cuts("up", "basic.ack", inside=False),
    "cut before an ack down": cuts("down", "basic.ack", inside=False),
    "throttled up": slow("up", rate=20_000),
    "throttled down": slow("down", rate=20_000),
}

SILENT: dict[str, dict[str, bool]] = {
    "stalled": {"stalled": True},
    "discarding": {"discard": True},
}


async def under(
    fault: Fault, name: str, proxy: Proxy, publisher: Publishing, random: Random, count: int
) -> float:
    """One fault while jobs flow, and the healing; seconds until all jobs were done."""
    publisher.ledger.fault(name)
    work = publisher.jobs.work
    sending = asyncio.create_task(publisher.send_many(work.message(n, 0.01) for n in range(count)))
    await asyncio.sleep(random.uniform(0.0, 0.05))
    fault(proxy, random)
    began = time.monotonic()
    # Bytes take their time where a network passes 20 kB of them in a second.
    patience = BACK + count * SLOWEST
    try:
        async with asyncio.timeout(patience):
            assert await sending == [], name
        await publisher.all_done(patience)
    finally:
        proxy.heal()
    return time.monotonic() - began


async def check_faults(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, rounds: int, count: int
) -> None:
    async with (
        Proxy(broker.url) as proxy,
        publishing(
            proxy.url, ledger, publish_timeout=BACK + count * SLOWEST, heartbeat=HEARTBEAT
        ) as publisher,
    ):
        await workers.start(
            proxy.url, "work", concurrency=C, prefetch=P, AMQPJOBS_HEARTBEAT=HEARTBEAT
        )
        for _ in range(rounds):
            for name, fault in FAULTS.items():
                took = await under(fault, name, proxy, publisher, random, count)
                ledger.tell(f"{name}: done after {took:.1f} s")
        await finish(broker.url, workers, ledger)
    # A connection may break with acks on their way, and all that was not confirmed is sent again.
    ledger.check(duplicates=rounds * len(FAULTS) * (C + P + count))
    assert not leftovers(broker.url)
    assert not workers.trouble()


async def test_no_broken_connection_loses_a_job(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Every way to break, one after the other, with one worker and one publisher."""
    await check_faults(broker, workers, ledger, random, rounds=1, count=30)


@pytest.mark.faults_full
@pytest.mark.timeout(3600)
async def test_no_broken_connection_loses_a_job_for_long(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_faults(broker, workers, ledger, random, rounds=5, count=300)


async def check_silence(
    broker: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    direction: Direction,
    kind: str,
    text: int,
    heartbeat: int = HEARTBEAT,
) -> None:
    noticed = 3 * (heartbeat + 1)
    async with (
        Proxy(broker.url) as proxy,
        publishing(
            proxy.url, ledger, publish_timeout=noticed + 15, heartbeat=heartbeat
        ) as publisher,
    ):
        worker = await workers.start(
            proxy.url, "work", concurrency=C, prefetch=P, AMQPJOBS_HEARTBEAT=heartbeat
        )
        item = publisher.jobs.item
        before = proxy.accepted
        proxy.set(direction, **SILENT[kind])
        ledger.fault(f"{kind} {direction}")
        sending = asyncio.create_task(
            publisher.send_many(item.message({"number": n, "text": "x" * text}) for n in range(60))
        )
        # Both sides notice: new connections are tried, and meet the same silence.
        took = await until(lambda: proxy.accepted >= before + 2, noticed + 10, "it is noticed")
        ledger.tell(f"noticed after {took:.1f} s")
        proxy.heal()
        async with asyncio.timeout(noticed + 20):
            assert await sending == []
        await publisher.all_done(noticed + 20)
        assert worker.running
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=C + P + 60)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_silent_network_is_noticed(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, direction: Direction, kind: str
) -> None:
    """No FIN, no RST, only silence: noticed by heartbeats, and left."""
    await check_silence(broker, workers, ledger, direction, kind, text=100)


async def test_silence_is_noticed_with_full_buffers(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Megabytes wait for a peer that reads nothing: closing must not wait for them to leave."""
    await check_silence(broker, workers, ledger, "up", "stalled", text=500_000)


@pytest.mark.faults_full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", SILENT)
@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_silent_network_is_noticed_within_48_s(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, direction: Direction, kind: str
) -> None:
    """The full form: the heartbeat that users have."""
    await check_silence(broker, workers, ledger, direction, kind, text=100, heartbeat=15)
