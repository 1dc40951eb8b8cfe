"""F35: a process that is frozen behind a TCP proxy until RabbitMQ gives it up.

What the process has open is the proxy's socket, and the proxy passes on what the process writes
before it learns that RabbitMQ has closed the other one.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.broker_server import VirtualHost
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.proxy import Proxy
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Stranger

C, P = 4, 8


def state_of(file: Path) -> str:
    """What the process says of itself in its heartbeat file; nothing if there is no file."""
    return file.read_text().partition(" ")[2].strip() if file.exists() else ""


async def check_worker(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, *, stops: int, heartbeat: int
) -> None:
    """Freeze a worker that holds jobs until they are ready on the broker again."""
    beat = ledger.folder / "heartbeat"
    within = 2 * heartbeat + 5
    async with (
        Proxy(broker.url, closes_both=True) as proxy,
        publishing(broker.url, ledger) as publisher,
    ):
        worker = await workers.start(
            proxy.url, "work", concurrency=C, prefetch=P,
            AMQPJOBS_HEARTBEAT=heartbeat, AMQPJOBS_HEARTBEAT_FILE=beat,
        )  # fmt: skip
        work = publisher.jobs.work
        for number in range(1, stops + 1):
            # Nothing ends while it is frozen, so that it has nothing to say when it goes on.
            gate = ledger.folder / f"gate-{number}"
            assert await publisher.send_many(work.message(n, 0.1, gate) for n in range(3 * P)) == []
            with Stranger(broker.url) as stranger:
                await until(lambda s=stranger: s.ready("work") == 3 * P - P, 20, "it is full")
            await freeze(worker, broker, ledger, heartbeat)
            await until(lambda n=number: len(worker.events("consuming")) > n, 20, "it is back")
            gate.touch()
            before = len(ledger.done()) + C  # those that ran when it was frozen end, too
            took = await until(
                lambda n=before: len(ledger.done()) > n, within, "jobs start", lambda: beat_of(beat)
            )
            ledger.tell(f"stop {number}: jobs start {took:.1f} s after SIGCONT")
            await publisher.all_done(30)
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=stops * C)
    assert len(worker.events("the process was away")) == stops
    assert not leftovers(broker.url)
    assert not workers.trouble()


def beat_of(file: Path) -> str:
    return f"its state: {state_of(file)!r}"


async def freeze(
    worker: WorkerProcess, broker: VirtualHost, ledger: Ledger, heartbeat: int
) -> None:
    """Stop a process until what it held is ready again, and let it go on."""
    ledger.fault(f"SIGSTOP to {worker.name}")
    worker.send(signal.SIGSTOP)
    with Stranger(broker.url) as stranger:
        held = stranger.ready("work")
        await until(lambda: stranger.ready("work") > held, 4 * heartbeat + 10, "given up")
    await asyncio.sleep(0.5)  # the proxy learns it
    ledger.tell(f"SIGCONT to {worker.name}")
    worker.send(signal.SIGCONT)


@pytest.mark.row("F35")
async def test_a_worker_frozen_behind_a_proxy_starts_jobs_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Back again, it starts the jobs that it is given on its new connection."""
    await check_worker(broker, workers, ledger, stops=2, heartbeat=2)
