"""After its timeout an `async def` may clean up; one that does not end loses its slot."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from amqpjobs import App, Batch, Queue, Retry
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import ConfigurationError, JobFailed
from amqpjobs.worker.worker import Worker
from tests.support.amqp import stranger
from tests.support.waiting import until
from tests.support.workers import app_at, working

IGNORED = "job ignores its timeout, slot freed"


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker() as running:
        yield running


class Stubborn:
    """A handler that swallows its cancellation until it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended = 0

    async def __call__(self) -> None:
        while not self.go.is_set():
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                continue
        self.ended += 1


async def test_a_handler_cleans_up_within_its_grace(broker: Broker) -> None:
    """It keeps its slot for that, and has failed by its timeout."""
    app, events = app_at(broker.url), []

    @app.job(queue="work", timeout=0.05, grace=20)
    async def job() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            events.append("cleaned")

    @app.job(queue="work")
    async def other() -> None:
        events.append("other")

    async with app.lifespan(), working(app, concurrency=1, prefetch=2) as worker:
        await job.later()
        await other.later()
        await until(lambda: len(events) == 2, "both")
        assert not worker.stuck
    assert events == ["cleaned", "other"]
    assert broker.virtual_host.queues["work.dead"].ready == 1


async def test_what_is_returned_within_the_grace_counts(broker: Broker) -> None:
    """As with `asyncio.timeout`: a handler that has caught its cancellation has ended well."""
    app = app_at(broker.url)

    @app.job(queue="work", timeout=0.05, grace=20)
    async def job() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "half of it"
        return "all of it"

    async with app.lifespan(), working(app):
        assert await job.request() == "half of it"


async def test_one_that_does_not_end_loses_its_slot_and_has_failed(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """Named in the log. Its end, later, changes nothing."""
    app, stubborn, others = app_at(broker.url), Stubborn(), []
    outcomes: list[str] = []

    @app.job(queue=Queue("work", rate="1000/s"), timeout=0.05, grace=0.05)
    async def job() -> None:
        await stubborn()

    @app.job(queue="other")
    async def other() -> None:
        others.append(True)

    def seen(run: Any, outcome: Any) -> None:
        outcomes.append(f"{run.context.job} {outcome.word}")

    async with app.lifespan():
        async with working(app, concurrency=1, observers=[seen]) as worker:
            await job.later()
            await other.later()
            await until(lambda: others, "the slot is free")
            assert outcomes == ["job failed", "other done"]
            assert (worker.snapshot().running, worker.stuck) == (0, True)
            [line] = [r for r in caplog.records if r.message == IGNORED]
            assert line.__dict__["job"] == job.name
            stubborn.go.set()
            await until(lambda: not worker.stuck, "it has ended")
            parts = worker._consuming
            assert parts is not None
            assert parts.intake.running == 0
            await other.later()
            await until(lambda: len(others) == 2, "the slot is there once")
        dead = broker.virtual_host.queues["work.dead"]
        assert (dead.ready, broker.virtual_host.queues["work"].unacked) == (1, 0)
    assert stubborn.ended == 1
    assert outcomes == ["job failed", "other done", "other done"]


async def test_its_caller_gets_the_error_and_a_retry_runs_beside_it(broker: Broker) -> None:
    """A retry is for whom the policy says; the first run still goes on."""
    app, stubborn, attempts = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.05, grace=0.05, retry=Retry(attempts=2, first=0.1, jitter=0))
    async def job() -> str:
        attempts.append(len(attempts))
        if attempts == [0]:
            await stubborn()
        return "done"

    @app.job(queue="work", timeout=0.05, grace=0.05)
    async def once() -> None:
        await stubborn()

    async with app.lifespan(), working(app):
        assert await job.request() == "done"
        with pytest.raises(JobFailed, match="ran longer than its timeout of 0.05 s"):
            await once.request()
        stubborn.go.set()
        await until(lambda: stubborn.ended == 2, "both ended")


async def test_one_that_does_not_end_has_its_callback(broker: Broker) -> None:
    """It has failed for good, as any other."""
    app, stubborn, notes = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.05, grace=0.05)
    async def job() -> None:
        await stubborn()

    @app.job(queue="notes")
    async def note(words: str) -> None:
        notes.append(words)

    async with app.lifespan(), working(app):
        await job.with_options(on_failure=note.message("failed")).later()
        await until(lambda: notes, "the callback")
        stubborn.go.set()
        await until(lambda: stubborn.ended, "it has ended")
    assert notes == ["failed"]


async def test_one_that_was_cancelled_and_does_not_end_is_cancelled(broker: Broker) -> None:
    """And not retried."""
    app, stubborn, outcomes = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.3, grace=0.05, cancellable=True, retry=Retry(first=0.1))
    async def job() -> None:
        outcomes.append("began")
        await stubborn()

    def seen(run: Any, outcome: Any) -> None:
        outcomes.append(outcome.word)

    async with app.lifespan(), working(app, observers=[seen]):
        handle = await job.later()
        await until(lambda: outcomes, "it runs")
        await handle.cancel()
        await until(lambda: len(outcomes) == 2, "its slot is free")
        stubborn.go.set()
        await until(lambda: stubborn.ended, "it has ended")
    assert outcomes == ["began", "cancelled"]


async def test_a_batch_that_does_not_end_loses_its_slot(broker: Broker) -> None:
    """All of its jobs have failed by the timeout."""
    app, stubborn, others = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.05, grace=0.05, batch=Batch(2))
    async def job(rows: list[int]) -> None:
        await stubborn()

    @app.job(queue="other")
    async def other() -> None:
        others.append(True)

    async with app.lifespan(), working(app, concurrency=1) as worker:
        await app.later_many(job.message(n) for n in range(2))
        dead = broker.virtual_host.queues
        await until(lambda: "work.dead" in dead and dead["work.dead"].ready == 2, "both failed")
        await other.later()
        await until(lambda: others, "the slot is free")
        assert worker.stuck
        stubborn.go.set()
        await until(lambda: not worker.stuck, "it has ended")
        parts = worker._consuming
        assert parts is not None
        assert parts.intake.running == 0


async def test_the_grace_is_the_shutdown_budget_by_default(broker: Broker) -> None:
    """What a handler has for its clean-up when its worker stops is enough here, too."""
    app, stubborn = app_at(broker.url, shutdown_timeout=0.1), Stubborn()

    @app.job(queue="work", timeout=0.05)
    async def job() -> None:
        await stubborn()

    async with app.lifespan(), working(app):
        await job.later()
        dead = broker.virtual_host.queues["work.dead"]
        await until(lambda: dead.ready == 1, "failed")
        stubborn.go.set()
        await until(lambda: stubborn.ended, "ended")


async def test_a_worker_stops_beside_one_that_does_not_end(broker: Broker) -> None:
    """Within its budget; its job is settled already. The process ends by force."""
    app, stubborn = app_at(broker.url), Stubborn()

    @app.job(queue="work", timeout=0.05, grace=0.05)
    async def job() -> None:
        await stubborn()

    async with app.lifespan():
        worker = Worker(app, until_empty=True)
        await job.later()
        await asyncio.wait_for(worker.run(), 10)
        assert worker.stuck
        stubborn.go.set()
        await until(lambda: stubborn.ended, "ended")


async def test_a_suspect_that_runs_alone_does_not_hold_the_others(broker: Broker) -> None:
    """It is in no module, so that no other process can run it; everything waits for it."""
    app, stubborn, others = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.05, grace=0.05)
    async def job() -> None:
        await stubborn()

    @app.job(queue="other")
    async def other() -> None:
        others.append(True)

    async with app.lifespan():
        await job.later()
        async with stranger(broker.url) as channel:
            await (await channel.get_queue("work")).get()  # and dies with it
        async with working(app) as worker:
            await until(lambda: worker.stuck, "it ignores its timeout")
            await other.later()
            await until(lambda: others, "others run again")
            stubborn.go.set()
            await until(lambda: not worker.stuck, "it has ended")
            await other.later()
            await until(lambda: len(others) == 2, "and still do")


async def test_suspects_that_run_alone_do_not_hold_each_other(broker: Broker) -> None:
    """More than there are places in quarantine: each has its turn, whatever becomes of the last."""
    app, stubborn, began = app_at(broker.url), Stubborn(), []

    @app.job(queue="work", timeout=0.05, grace=0.05, retry=Retry(attempts=1))
    async def job(n: int) -> None:
        began.append(n)
        await stubborn()

    async with app.lifespan():
        for n in range(4):
            await job.later(n)
        async with stranger(broker.url) as channel:
            queue = await channel.get_queue("work")
            for _ in range(4):
                await queue.get()  # and dies with them
        async with working(app) as worker:
            await until(lambda: broker.virtual_host.queues["work.dead"].ready == 4, "all failed")
            assert sorted(began) == [0, 1, 2, 3]
            stubborn.go.set()
            await until(lambda: not worker.stuck, "all ended")
            parts = worker._consuming
            assert parts is not None
            assert (parts.intake.running, parts.quarantine._free) == (0, 2)
            assert not parts.intake._still


def test_a_grace_needs_a_timeout_and_something_that_can_be_cancelled() -> None:
    """Said when it is declared."""
    app = App("refused")

    async def job() -> None: ...
    def sync() -> None: ...

    for function, options in (
        (job, {}),
        (sync, {"timeout": 5}),
        (sync, {"timeout": 5, "cpu": True}),
    ):
        with pytest.raises(ConfigurationError, match="grace= is what an `async def` has"):
            app.job(queue="work", grace=5, **options)(function)
    with pytest.raises(ConfigurationError, match="grace is a number of seconds above 0"):
        app.job(queue="work", timeout=5, grace=0)(job)
    assert app.job(queue="work", timeout=5, grace=timedelta(seconds=7))(job).name == job.__name__


async def test_a_timeout_in_time_leaves_no_timer(broker: Broker, caplog: Any) -> None:
    """Nothing is said of jobs that ended before."""
    app = app_at(broker.url)

    @app.job(queue="work", timeout=0.2, grace=0.01)
    async def job() -> None: ...

    with caplog.at_level(logging.INFO):
        async with app.lifespan(), working(app):
            for _ in range(20):
                await job.request()
            await asyncio.sleep(0.3)
    assert IGNORED not in caplog.text
