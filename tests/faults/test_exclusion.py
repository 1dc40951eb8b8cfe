"""F40 and F41: limits and unique jobs, with workers that are killed, frozen and restarted."""

import asyncio
import signal
import sys
import time
from random import Random
from typing import Any

import asyncpg
import pytest

from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Effect, Ledger
from tests.faults.limiting import LIMIT, STORE, build
from tests.faults.publishing import settings_for
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.postgres import Postgres

APP = "tests.faults.limiting:app"
C, W = 4, 3
SOON = 5.0
"""Seconds after its job in which a slot is free."""


async def prepared(server: Postgres, url: str) -> tuple[str, Any]:
    """A store with the table of fenced writes, and settings for it."""
    store = server.new_database()
    settings = settings_for(url).model_copy(
        update={"store_url": type(settings_for(url).url)(store), "events": False}
    )
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    connection = await asyncpg.connect(store)
    await connection.execute("CREATE TABLE fenced (name text PRIMARY KEY, token bigint NOT NULL)")
    await connection.close()
    return store, settings


def most_at_once(effects: list[Effect]) -> int:
    """The most runs that were written, at one time, of one key."""
    most = 0
    for key in {effect.note.split()[0] for effect in effects}:
        moments = []
        for effect in effects:
            if effect.note == f"{key} written":
                moments += [(effect.start, 1), (effect.end, -1)]
        now = 0
        for _, step in sorted(moments):
            now += step
            most = max(most, now)
    return most


async def check_limit(
    broker: VirtualHost,
    postgres: Postgres,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    *,
    limit: int,
    jobs: int,
    frozen: float,
) -> None:
    store, settings = await prepared(postgres, broker.url)
    app, limited, _ = build(limit, settings)
    options: dict[str, Any] = {
        "concurrency": C, "prefetch": 8, "app": APP, STORE: store, LIMIT: limit,
        "AMQPJOBS_HEARTBEAT": 2, "AMQPJOBS_SHUTDOWN_TIMEOUT": 5,
    }  # fmt: skip
    serving = [await workers.start(broker.url, "limited", **options) for _ in range(W)]
    zombies: set[int] = set()
    async with app.lifespan():
        calls = [limited.message(n % 4 if limit == 1 else 0) for n in range(jobs)]
        handles = await app.later_many(calls)
        # The same message once more: its id is the same, and it must not run beside itself.
        await app.enqueue(calls[0])
        ids = [handle.id for handle in handles]
        ledger.attempt(*ids)
        ledger.confirm(*ids)

        async def some() -> None:
            before = len(ledger.effects())
            if before < jobs:
                await until(lambda: len(ledger.effects()) > min(before + 10, jobs - 1), 60, "runs")

        for _ in range(2):
            await some()
            place = random.randrange(W)
            ledger.fault(f"kill -9 {serving[place].name}")
            serving[place].end()
            serving[place] = await workers.start(broker.url, "limited", **options)
        await some()
        sleeper = serving[random.randrange(W)]
        ledger.fault(f"SIGSTOP {sleeper.name}")
        zombies.add(sleeper.pid)
        sleeper.send(signal.SIGSTOP)
        await asyncio.sleep(frozen)
        sleeper.send(signal.SIGCONT)
        for place, worker in enumerate(serving):
            await some()
            ledger.fault(f"SIGTERM {worker.name}")
            serving[place] = await workers.start(broker.url, "limited", **options)
            worker.send(signal.SIGTERM)
            assert await worker.ended(30) == 0, worker.tail()
        written = lambda: {e.id for e in ledger.effects() if e.note.endswith("written")}  # noqa: E731
        await until(lambda: written() >= set(ids), 90, "all are done", lambda: len(written()))
    ended = time.time()
    await drained(store, ended)
    await workers.stop()
    effects = ledger.effects()
    assert most_at_once(effects) <= limit
    refused = [effect for effect in effects if effect.note.endswith("refused")]
    assert {effect.pid for effect in refused} <= zombies, "nobody else's writes are refused"
    ledger.check(duplicates=2 * C + 1 + len(refused) + C)
    assert not workers.trouble()


async def drained(store: str, ended: float) -> None:
    """No job waits, nothing is to be sent, and no slot is held soon after the last has ended."""
    connection = await asyncpg.connect(store)
    names = {
        "waiting": "SELECT count(*) FROM amqpjobs_waiting",
        "outbox": "SELECT count(*) FROM amqpjobs_outbox",
        "slots": "SELECT count(*) FROM amqpjobs_slot WHERE holder <> '' "
        "AND expires_at > extract(epoch FROM clock_timestamp())",
    }
    while True:
        left = {name: await connection.fetchval(query) for name, query in names.items()}
        if not any(left.values()):
            break
        assert time.time() < ended + SOON, left
        await asyncio.sleep(0.1)
    await connection.close()


@pytest.mark.row("F40")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_holds_whatever_happens_to_workers(
    broker: VirtualHost,
    postgres: Postgres,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    limit: int,
) -> None:
    """F40: killed, frozen and restarted; only a zombie overlaps, and its writes are refused."""
    await check_limit(broker, postgres, workers, ledger, random, limit=limit, jobs=150, frozen=8.0)


@pytest.mark.row("F40")
@pytest.mark.faults_full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("limit", [1, 3])
async def test_a_limit_holds_for_long(
    broker: VirtualHost,
    postgres: Postgres,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    limit: int,
) -> None:
    """The full form."""
    await check_limit(
        broker, postgres, workers, ledger, random, limit=limit, jobs=2000, frozen=90.0
    )


async def check_unique(
    broker: VirtualHost,
    postgres: Postgres,
    workers: Fleet,
    ledger: Ledger,
    *,
    calls: int,
    callers: int,
) -> None:
    store, settings = await prepared(postgres, broker.url)
    app, _, unique = build(1, settings)
    code = (
        "import asyncio, os, sys; from tests.faults.limiting import build; app, _, unique = "
        "build(1)\n"
        "async def main():\n"
        "    async with app.lifespan():\n"
        "        async def call():\n"
        "            return await unique.later(7)\n"
        f"        made = [await asyncio.gather(*(call() for _ in range(50))) for _ in range("
        f"{calls // callers // 50})]\n"
        "    flat = [h for some in made for h in some]\n"
        '    print(\'{"event": "called", "ids": "\' + \',\'.join({h.id for h in flat}) + '
        "'\", \"new\": ' + str(sum(not h.existing for h in flat)) + '}')\n"
        "asyncio.run(main())"
    )
    command = [sys.executable, "-c", code]
    done = [
        workers._launch("caller", broker.url, command, {STORE: store, "PYTHONPATH": "."})
        for _ in range(callers)
    ]
    for caller in done:
        assert await caller.ended(120) == 0, caller.tail()
    said = [line for caller in done for line in caller.events("called")]
    ids = {job_id for line in said for job_id in line["ids"].split(",")}
    assert len(ids) == 1, ids
    assert sum(line["new"] for line in said) == 1
    ledger.attempt(*ids)
    ledger.confirm(*ids)
    worker = await workers.start(broker.url, "unique", app=APP, **{STORE: store})
    await until(lambda: ledger.effects(), 30, "it is done")
    async with app.lifespan():
        assert not (await unique.later(8)).existing
        await until(lambda: len(ledger.effects()) == 2, 30, "the next is done")
        await asyncio.sleep(0.5)
        again = await unique.later(7)
        assert not again.existing
        ledger.attempt(again.id)
        ledger.confirm(again.id)
        await until(lambda: len(ledger.effects()) == 3, 30, "a new one is done")
    await workers.stop()
    assert len([e for e in ledger.effects() if e.id in ids]) == 1
    assert not worker.trouble()


@pytest.mark.row("F41")
@pytest.mark.timeout(240)
async def test_unique_calls_from_many_processes_are_one_job(
    broker: VirtualHost, postgres: Postgres, workers: Fleet, ledger: Ledger
) -> None:
    """F41: 1,000 calls from 4 processes."""
    await check_unique(broker, postgres, workers, ledger, calls=1000, callers=4)


@pytest.mark.row("F41")
@pytest.mark.faults_full
@pytest.mark.timeout(900)
async def test_very_many_unique_calls_are_one_job(
    broker: VirtualHost, postgres: Postgres, workers: Fleet, ledger: Ledger
) -> None:
    """The full form: 10,000 calls from 8 processes."""
    await check_unique(broker, postgres, workers, ledger, calls=10_000, callers=8)
