"""Batches on real brokers: what they promise, and what happens when one kills its worker."""

import asyncio
from collections import Counter
from pathlib import Path

from amqpjobs import Batch, Retry
from tests.support.amqp import count, drain, publish, stranger
from tests.support.batch_jobs import BAD, POISON
from tests.support.brokers.broker_server import VirtualHost, poll
from tests.support.programs import Ledger, command, environment, running
from tests.support.waiting import until
from tests.support.workers import app_at, working

JOBS = 500


async def test_many_jobs_in_few_calls_each_done_once(broker: VirtualHost) -> None:
    """One that fails and one that does not fit are dead letters alone; the queue is empty."""
    app = app_at(broker.url)
    done: Counter[int] = Counter()
    sizes: list[int] = []

    @app.job(queue="rows", batch=Batch(100, within=0.3))
    async def insert(rows: list[int]) -> None:
        sizes.append(len(rows))
        if 77 in rows:
            raise ValueError(77)
        await asyncio.sleep(0.01)  # what a database takes
        done.update(rows)

    async with app.lifespan():
        await app.later_many(insert.message(n) for n in range(JOBS))
        async with stranger(broker.url) as channel:
            await publish(channel, "rows", b'"none"', type="insert")
            async with working(app, concurrency=2):
                await until(lambda: len(done) == JOBS - 1, "all are done")
                await until(lambda: _count(channel, "rows.dead", 2), "two are dead")
            assert await count(channel, "rows") == 0
    assert set(done.values()) == {1}
    assert max(sizes) == 100
    assert sum(size > 1 for size in sizes) < 20


async def _count(channel: object, queue: str, wanted: int) -> bool:
    return await count(channel, queue) == wanted  # type: ignore[arg-type]


async def test_retries_of_a_batch_keep_their_attempts(broker: VirtualHost) -> None:
    """A copy is confirmed before each original is acked, as of every job."""
    app = app_at(broker.url)
    calls: list[list[int]] = []

    @app.job(
        queue="rows",
        batch=Batch(10, within=0.5, on_failure="together"),
        retry=Retry(attempts=3, first=0.1, jitter=0),
    )
    async def insert(rows: list[int]) -> None:
        calls.append(sorted(rows))
        if len(calls) == 1:
            raise OSError("the database is down")

    async with app.lifespan(), working(app, concurrency=2):
        await app.later_many(insert.message(n) for n in range(10))
        await until(lambda: len(calls) > 1 and sum(map(len, calls)) >= 20, "they ran again")
    assert calls[0] == list(range(10))
    assert sorted(n for call in calls[1:] for n in call) == list(range(10))


def test_a_row_that_kills_its_worker_is_found_by_itself(
    broker: VirtualHost, tmp_path: Path
) -> None:
    """The jobs of its batch are suspects: each runs in quarantine, alone, and the others are done
    there. The worker is killed each time until they are suspected."""
    env = environment(broker.url, tmp_path, AMQPJOBS_APP="tests.support.batch_jobs:app")
    assert command("topology", "apply", env=env).returncode == 0
    ledger = Ledger(env)

    async def send() -> None:
        async with stranger(broker.url) as channel:
            for n in range(30):
                await publish(channel, "rows", str(n).encode(), type="insert", message_id=str(n))

    asyncio.run(send())
    good = set(range(30)) - {POISON, BAD}
    with running("consume", "rows", "--processes", "2", env=env) as parent:
        assert poll(lambda: set(ledger.of("done")) >= good, 90), str(parent)
        parent.wait_for("job poison", timeout=60)
        parent.wait_for("job failed", timeout=60)
    dead = {str(m.message_id) for m in asyncio.run(drain(broker.url, "rows.dead"))}
    assert dead == {str(POISON), str(BAD)}
    assert sorted(ledger.of("done")) == sorted(good)
