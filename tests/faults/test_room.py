"""F37: a worker that has used up its threads or its files. No job fails for it."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from amqpjobs.telemetry.health.heartbeat_file import state_of
from tests.faults import roomless
from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, leftovers
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.transport import reach

pytestmark = pytest.mark.row("F37")

APP = "tests.faults.roomless:app"
C, P = 4, 8

FEW = ("sh", "-c", 'ulimit -n 100; exec "$@"', "sh")

NEEDS = {
    "threads": (roomless.thread, roomless.starts),
    "files": (roomless.process, roomless.opens, roomless.runs),
}
"""The jobs that need it, from us or by themselves."""


@asynccontextmanager
async def publisher_at(broker: VirtualHost, ledger: Ledger) -> AsyncIterator[Publishing]:
    roomless.app.configure(**reach(broker.url))
    async with roomless.app.lifespan():
        yield Publishing(roomless, ledger)  # type: ignore[arg-type]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("what", list(NEEDS))
async def test_a_worker_without_room_fails_no_job(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, tmp_path: Path, what: str
) -> None:
    """They are given back, a few a second, and no attempt is used; the worker says that it has no
    room; and when there is room again, each runs once."""
    beat = tmp_path / "heartbeat"
    async with publisher_at(broker, ledger) as publisher:
        worker = await workers.start(
            broker.url, app=APP, concurrency=C, prefetch=P, prefix=FEW, AMQPJOBS_HEARTBEAT_FILE=beat
        )
        await roomless.use_up.later(what)
        await until(lambda: done(worker, "use_up"), 20, "it is used up")
        ledger.fault(f"no more {what}")
        needs = NEEDS[what]
        jobs = [needs[n % len(needs)].message(n) for n in range(40)]
        assert await publisher.send_many(jobs) == []
        await until(lambda: len(worker.events("job released")) > 2 * C, 60, "they are given back")
        if what == "threads":  # without files there is none for the heartbeat, which grows old
            assert state_of(beat) == "no room: can't start new thread"
        assert worker.events("no room for jobs")
        assert not ledger.done()
        await roomless.give_back.later()
        await publisher.all_done(60)
        await until(lambda: state_of(beat) == "ok", 30, "it is well again", lambda: state_of(beat))
        await workers.stop()
    with Stranger(broker.url) as stranger:
        assert stranger.ready("work.dead") == 0
    assert set(Counter(e.attempt for e in ledger.effects())) == {1}
    ledger.check(duplicates=0)
    assert not leftovers(broker.url, ["work"])


@pytest.mark.timeout(120)
async def test_a_worker_that_gets_no_room_again_ends_and_another_does_its_jobs(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """With exit status 1 and a line that says what to give it; everything is given back."""
    async with publisher_at(broker_43, ledger) as publisher:
        worker = await workers.start(
            broker_43.url, app=APP, concurrency=C, prefetch=P, FAULTS_LONGEST=3
        )
        await roomless.use_up.later("threads")
        await until(lambda: done(worker, "use_up"), 20, "it is used up")
        ledger.fault("no more threads")
        assert await publisher.send_many(roomless.thread.message(n) for n in range(40)) == []
        assert await worker.ended(40) == 1
        assert "ulimit -u" in worker.tail(3)
        assert not ledger.done()
        await workers.start(broker_43.url, app=APP, concurrency=C, prefetch=P)
        await publisher.all_done(40)
        await workers.stop()
    with Stranger(broker_43.url) as stranger:
        assert stranger.ready("work.dead") == 0
    ledger.check(duplicates=0)


def done(worker, job: str) -> bool:
    return any(line.get("job") == job for line in worker.events("job done"))
