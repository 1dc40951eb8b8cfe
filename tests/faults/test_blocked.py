"""F23: a handler blocks the event loop. It is named, and the worker comes back."""

import asyncio
import signal
from itertools import chain

import pytest

from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost

C = 4
BLOCKED, ON = "the event loop is blocked", "the event loop runs again"


async def check_blocked_loop(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, heartbeat: int, seconds: float
) -> None:
    async with publishing(broker.url, ledger) as publisher:
        worker = await workers.start(
            broker.url, "work", concurrency=C, prefetch=2 * C, AMQPJOBS_HEARTBEAT=heartbeat
        )
        work, blocks = publisher.jobs.work, publisher.jobs.blocks
        fatal = blocks.message(seconds)
        messages = chain(
            (work.message(n, 0.2) for n in range(10)),
            [fatal],
            (work.message(n, 0.2) for n in range(10, 40)),
        )
        assert await publisher.send_many(messages) == []
        await until(lambda: worker.events(BLOCKED), 10, "it is named")
        assert fatal.id not in ledger.done(), "it is named while it blocks"
        await publisher.all_done(seconds + 60)
        assert worker.running
        await until(lambda: worker.events(ON), 5, "its end is told")
        await finish(broker.url, workers, ledger)
    (blocked, *_), (end, *_) = worker.events(BLOCKED), worker.events(ON)
    assert (blocked["job"], blocked["job_id"]) == ("blocks", fatal.id)
    assert 1 <= blocked["blocked_s"] < seconds
    assert "faults/jobs.py" in blocked["stack"][0]
    assert blocked["stack"][0].endswith(" blocks")
    assert (end["job_id"], end["blocked_s"] >= seconds - 0.5) == (fatal.id, True)
    lost = worker.events("connection lost, reconnecting")
    ledger.fault("a blocked loop")
    ledger.measured(f"connections lost: {len(lost)}")
    ledger.check(duplicates=C)
    assert not leftovers(broker.url)
    assert not workers.trouble()


@pytest.mark.row("F23")
@pytest.mark.row("F23")
@pytest.mark.timeout(180)
async def test_a_blocked_loop_is_named_and_recovers(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Eight seconds, with heartbeats of two: the broker may give the connection up."""
    await check_blocked_loop(broker, workers, ledger, 2, 8.0)


@pytest.mark.row("F23")
@pytest.mark.row("F23")
@pytest.mark.faults_full
@pytest.mark.timeout(600)
async def test_a_minute_of_a_blocked_loop(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: a minute, with the usual heartbeat."""
    await check_blocked_loop(broker, workers, ledger, 15, 60.0)


@pytest.mark.row("F23")
async def test_a_frozen_process_is_no_blocked_loop(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """SIGSTOP for three seconds: nobody had the time, and no handler is to blame."""
    async with publishing(broker_43.url, ledger) as publisher:
        worker = await workers.start(broker_43.url, "work", concurrency=C)
        assert await publisher.send(publisher.jobs.work.message(0, 4.0)) is None
        await until(lambda: not leftovers(broker_43.url, ["work"]), 10, "it runs")
        worker.send(signal.SIGSTOP)
        await asyncio.sleep(3)
        worker.send(signal.SIGCONT)
        await publisher.all_done(20)
        await workers.stop()
    assert not worker.events(BLOCKED)
    ledger.check(duplicates=0)
