"""F33: the log cannot be written. No job is lost, and the worker ends when it is told to."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from amqpjobs.cli.ending import EXTRA
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, finish, leftovers, publishing
from tests.support.brokers.broker_server import VirtualHost

C, P = 4, 8
BUDGET = 2
SLACK = 1.5
"""Seconds for Python to end, on a busy machine with two cores."""


class Pipe:
    """The smallest one, which a few lines fill. Its reader reads only when it is told to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)

    def read_until(self, ended: threading.Event) -> None:
        """Read what comes until then."""
        os.set_blocking(self.reader, False)
        while not ended.wait(0.01):
            with suppress(BlockingIOError):
                os.read(self.reader, 65536)

    def close(self) -> None:
        for end in (self.reader, self.writer):
            with suppress(OSError):
                os.close(end)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def launch(workers: Fleet, url: str, output: int) -> WorkerProcess:
    """A worker that writes its log, and its stderr, there."""
    return workers.launch(
        url, "work", concurrency=C, prefetch=P, output=output, AMQPJOBS_SHUTDOWN_TIMEOUT=BUDGET,
        PYTHONUNBUFFERED="",
    )  # fmt: skip


async def send(publisher: Publishing, numbers: range) -> None:
    assert await publisher.send_many(publisher.jobs.work.message(n) for n in numbers) == []


async def check_what_runs_is_given_back(
    publisher: Publishing, broker: VirtualHost, workers: Fleet, worker: WorkerProcess, gate: Path
) -> None:
    """SIGTERM while a job runs: as ever, exit status 0, and another worker does it."""
    assert await publisher.send(publisher.jobs.work.message(-1, gate=gate)) is None
    await until(lambda: not leftovers(broker.url, ["work"]), 10, "it runs")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    status = await worker.ended(BUDGET + EXTRA + SLACK)
    assert status == 0, f"after {time.monotonic() - began:.2f} s"
    assert leftovers(broker.url, ["work"]) == {"work": 1}
    gate.touch()
    await workers.start(broker.url, "work")
    await publisher.all_done(20)


@pytest.mark.row("F33")
@pytest.mark.parametrize("fault", ["disk full", "reader gone"])
async def test_a_log_that_fails_changes_nothing(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, pipe: Pipe, tmp_path: Path, fault: str
) -> None:
    """Jobs are done and given back as ever, though stderr fails with the log."""
    full = os.open("/dev/full", os.O_WRONLY)
    async with publishing(broker.url, ledger) as publisher:
        worker = launch(workers, broker.url, full if fault == "disk full" else pipe.writer)
        os.close(full)
        await send(publisher, range(5))
        await publisher.all_done(40)
        ledger.fault(fault)
        os.close(pipe.reader)
        await send(publisher, range(5, 100))
        await publisher.all_done(20)
        await check_what_runs_is_given_back(publisher, broker, workers, worker, tmp_path / "gate")
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)


@pytest.mark.row("F33")
async def test_a_log_that_nobody_reads_holds_nothing_up_and_loses_no_job(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, pipe: Pipe, tmp_path: Path
) -> None:
    """Lines wait for the reader, up to 10,000 of them; jobs are done and given back as ever, and
    the end does not wait. More lines than that: `tests/commands/test_unread_log.py`."""
    async with publishing(broker.url, ledger) as publisher:
        worker = launch(workers, broker.url, pipe.writer)
        ledger.fault("nobody reads")
        await send(publisher, range(100))
        await publisher.all_done(40)
        ledger.fault("nobody reads, and SIGTERM")
        await check_what_runs_is_given_back(publisher, broker, workers, worker, tmp_path / "gate")
        await finish(broker.url, workers, ledger)
    ledger.check(duplicates=0)
