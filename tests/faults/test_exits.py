"""F34: a handler's ways out. Each is one outcome, and no worker dies of one."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from amqpjobs.telemetry.health.heartbeat_file import state_of
from tests.faults import exits
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, leftovers
from tests.faults.stranger import Stranger, message_id
from tests.support.brokers.broker_server import VirtualHost
from tests.support.transport import reach

pytestmark = pytest.mark.row("F34")

APP = "tests.faults.exits:app"
C, P = 3, 12


@asynccontextmanager
async def scene(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, **options: object
) -> AsyncIterator[tuple[Publishing, WorkerProcess]]:
    """A worker, and a publisher."""
    exits.app.configure(**reach(broker.url))
    async with exits.app.lifespan():
        worker = await workers.start(broker.url, "work", prefetch=P, app=APP, **options)
        yield Publishing(exits, ledger), worker  # type: ignore[arg-type]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["async", "thread", "process"])
async def test_every_way_out_is_one_outcome(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, kind: str
) -> None:
    """Each runs as often as its policy says, innocents beside it run once, and the worker that
    began with them ends with them."""
    job = {"async": exits.leave, "thread": exits.leave_thread, "process": exits.leave_process}[kind]
    ways = [*exits.RAISED, *(exits.ASYNC if kind == "async" else exits.PLAIN)]
    async with scene(broker_43, workers, ledger, concurrency=C) as (publisher, worker):
        leaving = [job.message(how) for how in ways]
        innocents = [exits.innocent.message(n) for n in range(30)]
        innocents += [exits.innocent_thread.message(n) for n in range(30)]
        assert await publisher.send_many([*innocents[::2], *leaving, *innocents[1::2]]) == []
        ledger.fault(f"{len(ways)} ways out", len(ways))
        with Stranger(broker_43.url) as stranger:
            dead = lambda: stranger.ready("work.dead")  # noqa: E731
            await until(lambda: dead() == len(ways), 60, "they are dead", dead)
            found = [message_id(properties) for properties, _ in stranger.drain("work.dead")]
        await publisher.all_done(30)
        assert worker.running
        await workers.stop()
    assert sorted(found) == sorted(message.id for message in leaving)
    attempts = Counter((effect.id, effect.attempt) for effect in ledger.effects())
    assert set(attempts.values()) == {1}
    assert len(attempts) == exits.ATTEMPTS * len(leaving) + len(innocents)
    ledger.check(duplicates=len(leaving) * (exits.ATTEMPTS - 1), dead=found)
    assert not leftovers(broker_43.url, ["work"])
    assert not workers.trouble()


@pytest.mark.timeout(120)
async def test_threads_that_outlive_their_jobs_keep_their_slots(
    broker_43: VirtualHost, workers: Fleet, ledger: Ledger, tmp_path: Path
) -> None:
    """There are never more of them than slots; they are counted and named, in the log and for
    `amqpjobs health`; and when they end, the others have their turn."""
    beat = tmp_path / "heartbeat"
    slots, jobs = 2, 3
    async with scene(
        broker_43, workers, ledger, concurrency=slots, AMQPJOBS_HEARTBEAT_FILE=beat
    ) as (publisher, worker):
        assert await publisher.send_many([exits.innocent_thread.message(n) for n in range(9)]) == []
        await publisher.all_done(20)
        before = threads(worker)
        outliving = [exits.outlive.message(2.5) for _ in range(jobs)]
        assert await publisher.send_many(outliving) == []
        ledger.fault("threads outlive their jobs", jobs)
        most = 0

        def said() -> bool:
            nonlocal most
            most = max(most, threads(worker))
            return "threads outlive their jobs in " in state_of(beat)

        await until(said, 20, "it says so", lambda: state_of(beat))
        assert "outlive 0" in state_of(beat), "job and id"
        assert await publisher.send(exits.innocent_thread.message(10)) is None

        def over() -> bool:
            nonlocal most
            most = max(most, threads(worker))
            return len(worker.events("thread outliving its job has ended")) == jobs * 2

        await until(over, 60, "all have ended")
        await publisher.all_done(20)
        assert most <= before + slots
        await until(lambda: state_of(beat) == "ok", 20, "it is well again", lambda: state_of(beat))
        with Stranger(broker_43.url) as stranger:
            found = [message_id(properties) for properties, _ in stranger.drain("work.dead")]
        await workers.stop()
    for line in worker.events("thread outlives its job"):
        assert line["job"] == "outlive"
        assert line["job_id"] in {message.id for message in outliving}
        assert line["slots"] in ("1 of 2", "2 of 2")
    assert sorted(found) == sorted(message.id for message in outliving)
    ledger.check(duplicates=jobs * (exits.ATTEMPTS - 1), dead=found)
    assert not workers.trouble()


def threads(worker: WorkerProcess) -> int:
    return len(list(Path(f"/proc/{worker.pid}/task").iterdir()))
