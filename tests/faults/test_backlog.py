"""F21 and F22: a long queue behind the workers, and a slow job among fast ones."""

import asyncio
import time
from pathlib import Path
from statistics import quantiles

import pytest

from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost

MEBI = 2**20
FLAT = 24 * MEBI
"""How much more memory a long backlog may take than a short one."""

LIMIT = 120 * MEBI
"""Of a worker with this app, in all."""

BATCH = 5_000

P99 = 3.0
"""Seconds that a fast job may wait beside a slow one: milliseconds where nothing else runs."""


async def fill(publisher: Publishing, count: int) -> None:
    for begin in range(0, count, BATCH):
        numbers = range(begin, min(begin + BATCH, count))
        assert await publisher.send_many(publisher.jobs.work.message(n) for n in numbers) == []


async def work_off(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, timeout: float
) -> tuple[float, int]:
    """Start a worker on what waits: jobs a second while it worked, and its largest memory."""
    worker = await workers.start(
        broker.url, "work", concurrency=200, prefetch=400, AMQPJOBS_LOG_LEVEL="info"
    )
    largest = 0
    size = len(ledger.confirmed)

    def done() -> bool:
        nonlocal largest
        largest = max(largest, worker.resident)
        return lines(ledger) >= size

    before = lines(ledger)
    began = time.monotonic()
    await until(done, timeout, f"the backlog is gone: {lines(ledger)} of {size}")
    took = time.monotonic() - began
    await workers.stop()
    return (size - before) / took, largest


def lines(ledger: Ledger) -> int:
    """How many effects there are, without reading them into values."""
    with ledger.effects_file.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(MEBI), b""))


@pytest.mark.row("F21")
async def test_a_backlog_takes_no_memory(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """20,000 jobs wait: the worker that starts is no larger than with 500."""
    async with publishing(broker.url, ledger) as publisher:
        await fill(publisher, 500)
        _, short = await work_off(broker, workers, ledger, 30)
        await fill(publisher, 20_000)
        rate, long = await work_off(broker, workers, ledger, 80)
    ledger.tell(f"{rate:.0f}/s, {short / MEBI:.0f} MiB short, {long / MEBI:.0f} MiB long")
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert long - short < FLAT
    assert long < LIMIT


@pytest.mark.row("F21")
@pytest.mark.faults_full
@pytest.mark.timeout(7200)
async def test_a_million_jobs_wait(broker: VirtualHost, workers: Fleet, ledger: Ledger) -> None:
    """The full form: memory flat, throughput at least 0.8 of a short queue's."""
    async with publishing(broker.url, ledger, publish_timeout=120) as publisher:
        await fill(publisher, 10_000)
        fast, short = await work_off(broker, workers, ledger, 600)
        await fill(publisher, 1_000_000)
        slow, long = await work_off(broker, workers, ledger, 3600)
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert long - short < FLAT
    assert slow > 0.8 * fast


async def check_slow_job(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, gate: Path, slow: float, count: int
) -> None:
    """A job that takes until all others are done, and at least ``slow`` seconds."""
    await workers.start(broker.url, "work", concurrency=2, prefetch=4)
    async with publishing(broker.url, ledger) as publisher:
        work = publisher.jobs.work
        slow_job = work.message(-1, gate=gate)
        assert await publisher.send(slow_job) is None
        began = time.monotonic()
        sent: dict[str, float] = {}
        for number in range(count):
            message = work.message(number)
            sent[message.id] = time.time()
            assert await publisher.send(message) is None
            await asyncio.sleep(0.005)
        # One that was held up would wait for the gate, and so would this.
        await until(lambda: sent.keys() <= ledger.done(), 30, "the fast jobs are done")
        assert slow_job.id not in ledger.done()
        waited = [e.start - sent[e.id] for e in ledger.effects()]
        p99 = quantiles(waited, n=100)[98]
        ledger.tell(f"p99 of the fast jobs: {p99 * 1000:.1f} ms")
        await asyncio.sleep(began + slow - time.monotonic())  # the full form's five minutes
        gate.touch()
        await until(lambda: slow_job.id in ledger.done(), 10, "the slow job is done")
    await workers.stop()
    ledger.check(duplicates=0)
    assert not leftovers(broker.url)
    assert p99 < P99


@pytest.mark.row("F22")
async def test_a_slow_job_holds_up_nobody(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """One of two slots is taken: the other one serves everybody else meanwhile."""
    await check_slow_job(broker, workers, ledger, tmp_path / "gate", 0, 300)


@pytest.mark.row("F22")
@pytest.mark.faults_full
@pytest.mark.timeout(900)
async def test_a_very_slow_job_holds_up_nobody(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """The full form: five minutes."""
    await check_slow_job(broker, workers, ledger, tmp_path / "gate", 300, 10_000)


@pytest.mark.row("F22")
async def test_the_acks_of_fast_jobs_do_not_cover_a_slow_one(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """Its worker is killed when hundreds after it were acked: the slow job runs again."""
    worker = await workers.start(broker.url, "work", concurrency=2, prefetch=4)
    async with publishing(broker.url, ledger) as publisher:
        work = publisher.jobs.work
        slow_job = work.message(-1, gate=tmp_path / "gate")
        assert await publisher.send(slow_job) is None
        assert await publisher.send_many(work.message(n) for n in range(300)) == []
        await until(lambda: len(ledger.done()) == 300, 30, "the fast jobs are done")
        worker.end()
        assert slow_job.id not in ledger.done()
        (tmp_path / "gate").touch()
        await workers.start(broker.url, "work")
        await publisher.all_done(20)
    await workers.stop()
    # Acks that were written in the last moment may not have left.
    ledger.check(duplicates=4)
    assert not leftovers(broker.url)
