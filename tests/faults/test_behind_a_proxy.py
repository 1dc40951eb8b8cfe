"""F35: a process that is frozen behind a TCP proxy until RabbitMQ gives it up.

What the process has open is the proxy's socket, and the proxy passes on what the process writes
before it learns that RabbitMQ has closed the other one.
"""

import asyncio
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from amqpjobs.app import App
from amqpjobs.jobs.queue.topology import RECORDER_QUEUE
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.proxy import Proxy
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost

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
            await freeze(worker, broker, proxy, ledger, heartbeat)
            await until(lambda n=number: len(worker.events("consuming")) > n, 20, "it is back")
            gate.touch()
            before = len(ledger.done()) + C  # those that ran when it was frozen end, too
            took = await until(
                lambda n=before: len(ledger.done()) > n, within, "jobs start", lambda: beat_of(beat)
            )
            ledger.tell(f"stop {number}: jobs start {took:.1f} s after it is back")
            await publisher.all_done(30)
            await until(lambda: state_of(beat) == "ok", 10, "it is well", lambda: beat_of(beat))
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=stops * C)
    assert len(worker.events("the process was away")) == stops
    assert not leftovers(broker.url)
    assert not workers.trouble()


def beat_of(file: Path) -> str:
    return f"its state: {state_of(file)!r}"


async def unlinked(proxy: Proxy, heartbeat: int) -> None:
    """Wait until the proxy, too, knows that the broker has left the consumers of a process."""
    linked = lambda: any(each.consumers for each in proxy.connections)  # noqa: E731
    await until(lambda: not linked(), 4 * heartbeat + 10, "the proxy knows it")


async def freeze(
    worker: WorkerProcess, broker: VirtualHost, proxy: Proxy, ledger: Ledger, heartbeat: int
) -> None:
    """Stop a process until what it held is ready again, and let it go on."""
    ledger.fault(f"SIGSTOP to {worker.name}")
    worker.send(signal.SIGSTOP)
    with Stranger(broker.url) as stranger:
        held = stranger.ready("work")
        await until(lambda: stranger.ready("work") > held, 4 * heartbeat + 10, "given up")
    await unlinked(proxy, heartbeat)
    ledger.tell(f"SIGCONT to {worker.name}")
    worker.send(signal.SIGCONT)


@pytest.mark.row("F35")
async def test_a_worker_frozen_behind_a_proxy_starts_jobs_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """Back again, it starts the jobs that it is given on its new connection."""
    await check_worker(broker, workers, ledger, stops=2, heartbeat=2)


@pytest.mark.row("F35")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_a_worker_frozen_for_long_behind_a_proxy_starts_jobs_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """The full form, with the heartbeat that users have."""
    await check_worker(broker, workers, ledger, stops=3, heartbeat=15)


async def check_recorder(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, command: str, *, heartbeat: int
) -> None:
    """Freeze a process that records until RabbitMQ has given its consumer up."""
    beat = ledger.folder / "heartbeat"
    store = f"sqlite:///{ledger.folder / 'statuses.db'}"
    within = 2 * heartbeat + 5
    async with (
        Proxy(broker.url, closes_both=True) as proxy,
        publishing(broker.url, ledger, store_url=store) as publisher,
    ):
        await workers.start(broker.url, "work", concurrency=C, prefetch=P)
        options = ("--port", "0") if command == "web" else ()
        recorder = workers.launch_other(
            command, proxy.url, *options, AMQPJOBS_HEARTBEAT=heartbeat,
            AMQPJOBS_HEARTBEAT_FILE=beat, AMQPJOBS_STORE_URL=store, AMQPJOBS_LOG_FORMAT="json",
        )  # fmt: skip
        await until(lambda: recorder.events("consuming"), 40, f"it records:\n{recorder.tail()}")
        work = publisher.jobs.work
        assert await publisher.send_many(work.message(n) for n in range(P)) == []
        await publisher.all_done(20)
        ledger.fault(f"SIGSTOP to {recorder.name}")
        recorder.send(signal.SIGSTOP)
        # It is given events that it does not take.
        assert await publisher.send_many(work.message(n) for n in range(P)) == []
        await publisher.all_done(20)
        with Stranger(broker.url) as stranger:
            given_up = 4 * heartbeat + 10
            await until(lambda: not stranger.consumers(RECORDER_QUEUE), given_up, "given up")
        await unlinked(proxy, heartbeat)
        ledger.tell(f"SIGCONT to {recorder.name}")
        recorder.send(signal.SIGCONT)
        last = work.message(P)
        assert await publisher.send_many([last]) == []
        took = await recorded(publisher.jobs.app, ledger.confirmed, within)
        ledger.tell(f"all is recorded {took:.1f} s after SIGCONT")
        await until(lambda: state_of(beat) == "ok", 10, "it is well", lambda: beat_of(beat))
        assert not workers.trouble()  # before `record` says in plain words what it did
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)


async def recorded(app: App, ids: Iterable[str], timeout: float) -> float:
    """Wait until every one of these jobs is told to have succeeded; how many seconds it took."""
    began, missing = time.monotonic(), set(ids)
    while missing:
        assert time.monotonic() - began < timeout, f"{len(missing)} are not recorded"
        for job in list(missing):
            found = await app.status(job)
            if found is not None and found.state == "done":
                missing.discard(job)
        await asyncio.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.row("F35")
@pytest.mark.parametrize("command", ["record", "web"])
async def test_a_recorder_frozen_behind_a_proxy_records_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, command: str
) -> None:
    """What it held is given to it again on its new connection, and written."""
    await check_recorder(broker, workers, ledger, command, heartbeat=2)


@pytest.mark.row("F35")
@pytest.mark.faults_full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", ["record", "web"])
async def test_a_recorder_frozen_for_long_behind_a_proxy_records_again(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, command: str
) -> None:
    """The full form."""
    await check_recorder(broker, workers, ledger, command, heartbeat=15)
