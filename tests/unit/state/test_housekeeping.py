"""The housekeeping as people see it: what is wrong with it, in health and metrics."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from amqpjobs import App, Context
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import StoreUnavailable
from amqpjobs.settings import load_settings
from amqpjobs.state import housekeeping as module
from amqpjobs.state.housekeeping import Housekeeping
from amqpjobs.state.memory import memory_of
from amqpjobs.state.needs import housekeeping_of
from amqpjobs.state.outbox.rows import values_of
from amqpjobs.state.store.opening import open_durable
from amqpjobs.state.store.tables import durable, outbox
from amqpjobs.telemetry import conventions as names
from tests.support.metering import measured
from tests.support.transport import reach
from tests.support.waiting import until


class Duty:
    """One that does what the test says."""

    def __init__(self, name: str, pause: float = 1.0) -> None:
        self.name, self.pause = name, pause
        self.turns, self.problem = 0, ""

    async def turn(self) -> bool:
        self.turns += 1
        if self.problem:
            raise StoreUnavailable(self.problem)
        return False

    async def next_at(self) -> float | None:
        return None


def has_turned(duty: Duty, turns: int) -> bool:
    return duty.turns > turns


@asynccontextmanager
async def kept(housekeeping: Housekeeping) -> AsyncIterator[None]:
    task = asyncio.create_task(housekeeping.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def app_at(tmp_path: Path, **settings: object) -> App:
    return App("tests", settings=load_settings(store_url=f"sqlite:///{tmp_path}/s.db", **settings))


async def test_what_fails_for_long_is_a_problem_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at once: a database that restarts is none."""
    duty = Duty("outbox")
    duty.problem = "is the database\nrunning?"
    housekeeping = Housekeeping(memory_of(app_at(tmp_path).client), [duty])
    async with kept(housekeeping):
        await until(lambda: housekeeping.states["outbox"].errors == 1, "it has failed")
        assert housekeeping.beside is None
        monkeypatch.setattr(module, "LATE", -1.0)
        assert housekeeping.beside == ("housekeeping has to wait: outbox: is the database running?")


async def test_a_commit_hurries_what_has_no_time(tmp_path: Path) -> None:
    """The outbox is looked at; what forgets old rows is not."""
    hurried, leisurely = Duty("outbox", 9.0), Duty("inbox", 300.0)
    memory = memory_of(app_at(tmp_path).client)
    housekeeping = Housekeeping(memory, [hurried, leisurely])
    async with kept(housekeeping):
        await until(lambda: hurried.turns and leisurely.turns, "both had their first turn")
        for turns in range(hurried.turns, hurried.turns + 3):
            memory.nudge()
            await until(partial(has_turned, hurried, turns), "it was hurried", timeout=5.0)
        assert leisurely.turns == 1


async def test_the_outbox_and_the_duties_are_measured(tmp_path: Path) -> None:
    """What waits, what was refused, and how the duties are; nothing is left when it ends."""
    with measured() as metrics:
        async with Broker("4.3") as broker:
            app = app_at(tmp_path, **reach(broker.url), reconnect_limit=1)
            app.outbox()

            @app.job(queue="work")
            async def send() -> None: ...

            settings = app.settings
            store = await open_durable(settings)
            _, prepared = await app.client.preparing.prepare(send.message())
            assert prepared is not None
            values = values_of("tests", prepared, store.now - 30)

            def write(connection: Connection) -> None:
                connection.execute(
                    insert(outbox).values({**values, "leased_until": store.now + 600})
                )
                refused = {"failed_at": store.now, "error": "no"}
                connection.execute(insert(outbox).values({**values, **refused}))

            await store.run(write)
            await store.close()
            housekeeping = housekeeping_of(app.client)
            assert housekeeping is not None
            async with kept(housekeeping):
                await until(lambda: metrics.points(names.OUTBOX_AGE), "it was measured")
                assert metrics.value(names.OUTBOX_OPEN) == 1
                assert metrics.value(names.OUTBOX_FAILED) == 1
                assert 30 <= metrics.value(names.OUTBOX_AGE) < 60
                [point] = metrics.points(names.OUTBOX_OPEN)
                assert point.attributes == {"amqpjobs.app": "tests"}
                [age] = metrics.points(names.HOUSEKEEPING_AGE, **{names.DUTY: "outbox"})
                assert 0 <= age.value < 60
                housekeeping.states["outbox"].errors = 2
                assert metrics.value(names.HOUSEKEEPING_ERRORS) == 2
            assert not metrics.points(names.OUTBOX_OPEN)
            assert metrics.value(names.HOUSEKEEPING_ERRORS) == 2
            await app.close()


async def test_durable_jobs_are_measured_by_their_state(tmp_path: Path) -> None:
    """Those that could not be undone, above all; what has ended well is not counted."""
    with measured() as metrics:
        async with Broker("4.3") as broker:
            app = app_at(tmp_path, **reach(broker.url), reconnect_limit=1)

            @app.job(queue="work", durable=True)
            async def fulfil(ctx: Context) -> None: ...

            store = await open_durable(app.settings)

            def write(connection: Connection) -> None:
                row = {
                    "app": "tests",
                    "job": "fulfil",
                    "epoch": 0,
                    "token": 1,
                    "routing_key": "work",
                }
                for number, state in enumerate(("suspended", "undo_failed", "undo_failed", "done")):
                    values = row | {"job_id": str(number), "state": state}
                    times = {"created_at": store.now, "changed_at": store.now}
                    connection.execute(insert(durable).values(**values, **times))

            await store.run(write)
            await store.close()
            housekeeping = housekeeping_of(app.client)
            assert housekeeping is not None
            async with kept(housekeeping):
                await until(lambda: metrics.points(names.DURABLE_JOBS), "they were counted")
                found = {
                    point.attributes[names.DURABLE_STATE]: point.value
                    for point in metrics.points(names.DURABLE_JOBS)
                }
            assert found == {"running": 0, "suspended": 1, "undoing": 0, "undo_failed": 2}
            assert not metrics.points(names.DURABLE_JOBS)
            await app.close()


async def test_a_process_without_metrics_measures_nothing(tmp_path: Path) -> None:
    """It costs queries."""
    app = app_at(tmp_path)
    app.outbox()
    housekeeping = housekeeping_of(app.client)
    assert housekeeping is not None
    assert "outbox measures" not in housekeeping.states
    assert housekeeping.age < time.monotonic()


async def test_a_commit_during_a_turn_is_seen_by_the_next(tmp_path: Path) -> None:
    """At once, and not after a pause: the turn had looked before."""
    memory = memory_of(app_at(tmp_path).client)

    class Nudged(Duty):
        async def turn(self) -> bool:
            found = await super().turn()
            if self.turns < 10:
                memory.nudge()
                await asyncio.sleep(0)
            return found

    duty = Nudged("outbox", 9.0)
    async with kept(Housekeeping(memory, [duty])):
        await until(lambda: duty.turns == 10, "each was followed by another", timeout=5.0)
