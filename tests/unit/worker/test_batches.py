"""Batches: collected, run in one call, and settled one by one."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from amqpjobs import App, Batch, BatchFailed, Context, Depends, Queue, Reject, Retry, Snooze
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import ConfigurationError, InvalidArguments, JobFailed
from amqpjobs.testing import Testing
from amqpjobs.worker import recycling
from amqpjobs.worker.worker import Worker
from tests.support.amqp import publish, stranger
from tests.support.waiting import until
from tests.support.workers import app_at, working


class Row(BaseModel):
    n: int


class Batched:
    """An app with one job of batches, and what its handler was called with."""

    def __init__(self, batch: Batch, **options: Any) -> None:
        self.app = App("batches", retry=options.pop("policy", Retry(attempts=1)))
        self.calls: list[list[int]] = []
        self.bad: dict[int, BaseException] = {}
        self.down: BaseException | None = None
        self.partial = False

        @self.app.job(queue=options.pop("queue", "rows"), batch=batch, **options)
        async def insert(rows: list[Row]) -> list[int]:
            self.calls.append([row.n for row in rows])
            if self.down is not None:
                raise self.down
            bad = {i: self.bad[row.n] for i, row in enumerate(rows) if row.n in self.bad}
            if bad and self.partial:
                raise BatchFailed(bad, [2 * row.n for row in rows])
            for error in bad.values():
                raise error
            return [2 * row.n for row in rows]

        self.insert = insert

    async def enqueue(self, count: int) -> None:
        await self.app.later_many(self.insert.message(Row(n=n)) for n in range(count))

    def outcomes(self, t: Testing) -> list[str]:
        return [ran.outcome for ran in t.runs(self.insert)]


async def test_a_full_batch_runs_at_once_and_the_rest_after_its_time() -> None:
    """`within` counts from the first job of each batch, on the clock of the test."""
    rows = Batched(Batch(3, within=0.5))
    async with rows.app.testing() as t:
        await rows.enqueue(7)
        await t.run_until_idle()
        assert rows.calls == [[0, 1, 2], [3, 4, 5]]
        await t.advance(0.4)
        assert len(rows.calls) == 2
        await t.advance(0.2)
        assert rows.calls[2:] == [[6]]
        assert rows.outcomes(t) == ["done"] * 7
        assert t.results(rows.insert) == [0, 2, 4, 6, 8, 10, 12]


async def test_a_job_is_one_row_for_everybody_who_calls_it() -> None:
    """`later`, `message`, `request` and a plain call take one; the message holds one."""
    rows = Batched(Batch(10, within=0.1))
    assert rows.insert.message(Row(n=3)).body == b'{"n":3}'
    assert await rows.insert(Row(n=4)) == 8
    assert await rows.insert(rows=Row(n=4)) == 8  # type: ignore[call-arg]
    with pytest.raises(InvalidArguments):
        rows.insert.message([Row(n=1)])  # type: ignore[arg-type]


async def test_requests_are_answered_one_by_one() -> None:
    """Each with its own result, from one call."""
    async with Broker() as broker:
        app, calls = app_at(broker.url), []

        @app.job(queue="rows", batch=Batch(3, within=30))
        async def double(rows: list[int]) -> list[int]:
            calls.append(rows)
            return [2 * n for n in rows]

        async with app.lifespan(), working(app):
            answers = await asyncio.gather(*(double.request(n) for n in range(3)))
        assert answers == [0, 2, 4]
        assert len(calls) == 1


async def test_a_batch_takes_one_slot_and_its_jobs_none_while_they_wait() -> None:
    """With one slot a batch is still filled, and other jobs run meanwhile."""
    async with Broker() as broker:
        app, calls, go, others = app_at(broker.url), [], asyncio.Event(), []

        @app.job(queue="rows", batch=Batch(50, within=30))
        async def insert(rows: list[int]) -> None:
            calls.append(len(rows))
            await go.wait()

        @app.job(queue="other")
        async def other() -> None:
            others.append(True)

        async with app.lifespan(), working(app, concurrency=1) as worker:
            await app.later_many(insert.message(n) for n in range(49))
            await until(lambda: worker.snapshot().held == 49, "collected")
            await other.later()
            await until(lambda: others, "another job runs meanwhile")
            assert (worker.snapshot().running, calls) == (0, [])
            await insert.later(49)
            await until(lambda: calls == [50], "full")
            await other.later()
            await until(lambda: worker.snapshot().waiting == 1, "the slot is taken")
            assert len(others) == 1
            go.set()
            await until(lambda: len(others) == 2, "the slot is free again")
            await until(lambda: not worker.snapshot().running, "all are done")
            queue = broker.virtual_host.queues["rows"]
            await until(lambda: not queue.unacked and not queue.ready, "all are acked")
            parts = worker._consuming
            assert parts is not None
            assert parts.intake.running == 0


async def test_a_message_that_does_not_fit_is_a_dead_letter_alone() -> None:
    """It never gets into the batch."""
    rows = Batched(Batch(2, within=0.1))
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(1)
        async with stranger(t.url) as channel:
            await publish(channel, "rows", b'{"n":"many"}', type="Batched.__init__.insert")
            await publish(channel, "rows", b'{"n":"many"}', type=rows.insert.name)
        await t.advance(0.2)
        assert rows.calls == [[0]]
        assert sorted(rows.outcomes(t)) == ["done", "invalid"]
        [dead] = t.dead()
        assert dead.reason == "invalid"


async def test_each_finds_the_bad_one_and_only_that_one_fails() -> None:
    """The others are done by the same attempt."""
    rows = Batched(Batch(5, within=0.1))
    rows.bad = {2: ValueError("2 is bad")}
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(5)
        await t.run_until_idle()
        assert rows.calls == [[0, 1, 2, 3, 4], [0], [1], [2], [3], [4]]
        assert sorted(rows.outcomes(t)) == ["done"] * 4 + ["failed"]
        [dead] = t.dead()
        assert (dead.arguments, dead.reason) == ({"rows": Row(n=2)}, "failed")


async def test_a_job_that_failed_runs_alone_the_next_time() -> None:
    """With "each": so it does not fail another batch."""
    rows = Batched(Batch(2, within=10), policy=Retry(attempts=3, first=1, jitter=0))
    rows.bad = {1: ValueError("1 is bad")}
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(2)
        await t.run_until_idle()
        rows.calls.clear()
        await t.advance(5)
        assert rows.calls == [[1], [1]]
        assert rows.outcomes(t) == ["done", "retried", "retried", "failed"]


async def test_together_retries_all_of_them_as_a_batch() -> None:
    """By the policy of the job."""
    batch = Batch(3, within=0.1, on_failure="together")
    rows = Batched(batch, policy=Retry(attempts=2, first=5, jitter=0))
    rows.down = OSError("the database is down")
    async with rows.app.testing() as t:
        await rows.enqueue(3)
        await t.run_until_idle()
        rows.down = None
        await t.advance(10)
        assert [sorted(call) for call in rows.calls] == [[0, 1, 2], [0, 1, 2]]
        assert rows.outcomes(t) == ["retried"] * 3 + ["done"] * 3


async def test_each_gives_up_when_the_first_ones_all_fail() -> None:
    """What all of them need is down: the rest is not tried one by one."""
    rows = Batched(Batch(6, within=0.1), policy=Retry(attempts=2, first=5, jitter=0))
    rows.down = OSError("the database is down")
    async with rows.app.testing() as t:
        await rows.enqueue(6)
        await t.run_until_idle()
        assert rows.calls == [[0, 1, 2, 3, 4, 5], [0], [1], [2]]
        assert rows.outcomes(t) == ["retried"] * 6
        rows.down = None
        await t.advance(10)
        assert rows.outcomes(t)[6:] == ["done"] * 6


async def test_one_by_one_takes_no_longer_than_rabbitmq_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The rest is retried, alone."""
    monkeypatch.setattr("amqpjobs.worker.batches.LONGEST_EACH", -1.0)
    rows = Batched(Batch(3, within=0.1), policy=Retry(attempts=2, first=5, jitter=0))
    rows.bad = {2: ValueError("2 is bad")}
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(3)
        await t.run_until_idle()
        assert rows.outcomes(t) == ["retried"] * 3
        await t.advance(10)
        assert sorted(rows.outcomes(t)[3:]) == ["done", "done", "failed"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("x"), "failed"), (Reject("x"), "rejected"), (Snooze(60), "snoozed")],
)
async def test_a_handler_says_which_have_failed(error: BaseException, outcome: str) -> None:
    """`BatchFailed`: the others are done, and nothing runs twice."""
    rows = Batched(Batch(4, within=0.1))
    rows.partial, rows.bad = True, {1: error, 3: error}
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(4)
        await t.run_until_idle()
        assert rows.calls == [[0, 1, 2, 3]]
        assert t.results(rows.insert) == [0, 4]
        assert rows.outcomes(t) == ["done", "done", outcome, outcome]  # those with copies are last


async def test_a_result_may_be_a_verdict() -> None:
    """As what any job returns."""
    app = App("verdicts")

    @app.job(queue="rows", batch=Batch(2, within=1))
    async def check(rows: list[int]) -> list[Any]:
        return [Reject("odd") if n % 2 else None for n in rows]

    async with app.testing(raise_errors=False) as t:
        await app.later_many(check.message(n) for n in range(2))
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs()] == ["done", "rejected"]


async def test_a_verdict_that_is_raised_is_that_of_all() -> None:
    """But for Reject, which is about one of them: "each" finds out which."""
    rows = Batched(Batch(2, within=0.1))
    rows.down = Snooze(60)
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(2)
        await t.run_until_idle()
        assert rows.outcomes(t) == ["snoozed"] * 2
    rejecting = Batched(Batch(2, within=0.1))
    rejecting.bad = {0: Reject("0 is bad")}
    async with rejecting.app.testing(raise_errors=False) as t:
        await rejecting.enqueue(2)
        await t.run_until_idle()
        assert rejecting.outcomes(t) == ["done", "rejected"]


@pytest.mark.parametrize("returned", [[1], [1, 2, 3], "ab", (1, 2)])
async def test_results_that_are_not_one_for_each_fail_all(returned: Any) -> None:
    """Nobody knows whose they are, and the handler has done its work: it is not called again."""
    app, calls = App("wrong", retry=Retry(attempts=1)), []

    @app.job(queue="rows", batch=Batch(2, within=1))
    async def wrong(rows: list[int]) -> Any:
        calls.append(rows)
        return returned

    async with app.testing(raise_errors=False) as t:
        await app.later_many(wrong.message(n) for n in range(2))
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs()] == ["failed"] * 2
        assert "batch of 2 returned" in t.dead()[0].message
    assert len(calls) == 1


@pytest.mark.parametrize(
    "said",
    [({2: ValueError()},), ({-1: ValueError()},), ({0: "no exception"},), ({0: ValueError()}, [1])],
)
async def test_an_error_of_no_job_fails_all(said: Any) -> None:
    """Done is only what the handler has not named; a place that is none may be any."""
    app = App("wrong", retry=Retry(attempts=1))

    @app.job(queue="rows", batch=Batch(2, within=1))
    async def wrong(rows: list[int]) -> None:
        raise BatchFailed(*said)

    async with app.testing(raise_errors=False) as t:
        await app.later_many(wrong.message(n) for n in range(2))
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs()] == ["failed"] * 2


async def test_the_timeout_is_that_of_the_batch() -> None:
    """All have failed, since nobody knows whose fault it was; each runs alone after that."""
    app, calls = App("slow", retry=Retry(attempts=2, first=1, jitter=0)), []

    @app.job(queue="rows", batch=Batch(2, within=1), timeout=0.05)
    async def slow(rows: list[int]) -> None:
        calls.append(rows)
        if len(rows) > 1:
            await asyncio.Event().wait()

    async with app.testing() as t:
        await app.later_many(slow.message(n) for n in range(2))
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs()] == ["retried"] * 2
        await t.advance(5)
        assert calls == [[0, 1], [0], [1]] or calls == [[0, 1], [1], [0]]
        assert [ran.outcome for ran in t.runs()][2:] == ["done"] * 2


def test_a_call_cannot_set_the_timeout_of_a_batch() -> None:
    """It is in it with others."""
    with pytest.raises(ConfigurationError, match="that of a whole batch"):
        Batched(Batch(2)).insert.with_options(run_timeout=5)


async def test_what_expires_while_it_is_collected_does_not_run() -> None:
    """Alone; the others do."""
    rows = Batched(Batch(5, within=10))
    async with rows.app.testing() as t:
        await rows.insert.with_options(expires=5).later(Row(n=1))
        await rows.insert.later(Row(n=2))
        await t.advance(20)
        assert rows.calls == [[2]]
        assert sorted(rows.outcomes(t)) == ["done", "expired"]


async def test_middleware_sees_each_job() -> None:
    """Around each; a batch is nothing to them."""
    seen: list[int] = []

    async def watch(call_next: Any, context: Context) -> object:
        result = await call_next(context)
        seen.append(result)
        return result

    app = App("watched", processing=[watch])

    @app.job(queue="rows", batch=Batch(3, within=1))
    async def double(rows: list[int]) -> list[int]:
        return [2 * n for n in rows]

    async with app.testing() as t:
        await app.later_many(double.message(n) for n in range(3))
        await t.run_until_idle()
    assert seen == [0, 2, 4]


async def test_a_handler_has_a_context_and_dependencies() -> None:
    """Once for the batch; its context has an id of its own."""
    opened: list[str] = []

    async def session() -> AsyncIterator[str]:
        opened.append("open")
        yield "session"
        opened.append("closed")

    app, seen = App("injected"), []

    @app.job(queue="rows", batch=Batch(2, within=1))
    async def insert(
        ctx: Context, rows: list[int], given: Annotated[str, Depends(session)]
    ) -> None:
        seen.append((ctx.job, ctx.attempt, given, len(rows)))

    async with app.testing() as t:
        await app.later_many(insert.message(n) for n in range(2))
        await t.run_until_idle()
    assert seen == [("insert", 1, "session", 2)]
    assert opened == ["open", "closed"]


async def test_stopping_gives_back_what_was_collected_and_interrupts_what_runs() -> None:
    """The handler cleans up before its jobs go back; no attempt is used."""
    async with Broker() as broker:
        app, started, cleaned = app_at(broker.url, shutdown_timeout=0.6), asyncio.Event(), []

        @app.job(queue="rows", batch=Batch(2, within=60))
        async def insert(rows: list[int]) -> None:
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                queue = broker.virtual_host.queues["rows"]
                cleaned.append((queue.ready, queue.unacked))

        async with app.lifespan():
            async with working(app) as worker:
                await app.later_many(insert.message(n) for n in range(3))
                await started.wait()
                await until(lambda: worker.snapshot().held == 1, "the third is collected")
            assert cleaned == [(1, 2)]  # the one that had not started was given back at once
            assert broker.virtual_host.queues["rows"].ready == 3
        assert not worker.stuck


async def test_a_batch_that_waits_for_a_slot_is_given_back_at_a_stop() -> None:
    """It has not started."""
    async with Broker() as broker:
        app, go = app_at(broker.url), asyncio.Event()

        @app.job(queue="rows", batch=Batch(2, within=60))
        async def insert(rows: list[int]) -> None:
            raise AssertionError

        @app.job(queue="other")
        async def other() -> None:
            await go.wait()

        async with app.lifespan():
            async with working(app, concurrency=1, prefetch=4) as worker:
                await insert.later(1)
                await until(lambda: worker.snapshot().held == 1, "collected")
                for _ in range(2):
                    await other.later()
                await until(lambda: worker.snapshot().running == 1, "the slot is taken")
                parts = worker._consuming
                assert parts is not None
                assert parts.batches is not None
                [gathering] = parts.batches._waiting
                parts.batches._full(gathering)
                assert "1 jobs collected, 0 running" in repr(parts.batches)
                worker.stop()
                go.set()
            assert broker.virtual_host.queues["rows"].ready == 1


async def test_middleware_that_catches_errors_does_not_lose_what_was_not_started() -> None:
    """What was collected goes back when the worker stops, and expires when its time is over."""
    async with Broker() as broker:
        app, calls, caught = app_at(broker.url), [], []

        async def careless(call_next: Any, ctx: Context) -> object:
            try:
                return await call_next(ctx)
            except Exception as error:
                caught.append(error)
                return None

        @app.job(queue="rows", batch=Batch(2, within=60), middleware=[careless])
        async def insert(rows: list[int]) -> None:
            calls.append(rows)

        async with app.lifespan():
            async with working(app) as worker:
                await insert.later(1)
                await until(lambda: worker.snapshot().held == 1, "collected")
            assert (calls, caught) == ([], [])
            assert broker.virtual_host.queues["rows"].ready == 1


async def test_a_request_that_is_taken_back_leaves_its_batch() -> None:
    """The others run on; when all are gone, so is the batch."""
    async with Broker() as broker:
        app, calls, cancelled = app_at(broker.url), [], []
        go = asyncio.Event()

        @app.job(queue="rows", batch=Batch(2, within=0.5))
        async def insert(rows: list[int]) -> list[int]:
            calls.append(rows)
            try:
                await go.wait()
            except asyncio.CancelledError:
                cancelled.append(rows)
                raise
            return rows

        async with app.lifespan(), working(app) as worker:
            first = asyncio.create_task(insert.request(1))
            await until(lambda: worker.snapshot().held == 1, "collected")
            first.cancel()
            await until(lambda: worker.snapshot().held == 0, "left")
            both = [asyncio.create_task(insert.request(n)) for n in (2, 3)]
            await until(lambda: calls, "runs")
            both[0].cancel()
            await until(lambda: worker.snapshot().running == 1, "one left")
            assert not cancelled
            both[1].cancel()
            await until(lambda: cancelled, "nobody waits")
            await until(lambda: worker.snapshot().running == 0, "both left")
        assert sorted(calls[0]) == [2, 3]


async def test_a_lost_connection_does_not_lose_or_double_what_was_collected() -> None:
    """It is delivered again, and runs once."""
    async with Broker() as broker:
        app, calls = app_at(broker.url), []

        @app.job(queue="rows", batch=Batch(3, within=1))
        async def insert(rows: list[int]) -> None:
            calls.append(rows)

        async with app.lifespan(), working(app) as worker:
            await app.later_many(insert.message(n) for n in range(2))
            await until(lambda: worker.snapshot().held == 2, "collected")
            broker.faults.cut_now()
            queue = broker.virtual_host.queues["rows"]
            await until(lambda: calls and not queue.ready and not queue.unacked, "all done")
        assert sorted(n for call in calls for n in call) == [0, 1]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_odd_exceptions_are_failures_of_the_jobs(error: BaseException) -> None:
    """They neither end the worker nor stay in the batch."""
    rows = Batched(Batch(2, within=0.1))
    rows.down = error
    async with rows.app.testing(raise_errors=False) as t:
        await rows.enqueue(2)
        await t.run_until_idle()
        assert rows.outcomes(t) == ["failed"] * 2


async def test_prefetch_is_raised_for_the_queue_of_a_batch_alone() -> None:
    """One batch runs while the next is collected."""
    async with Broker() as broker:
        app = app_at(broker.url)

        @app.job(queue="rows", batch=Batch(100, within=1))
        async def insert(rows: list[int]) -> None: ...

        app.job(queue="other", name="other")(lambda: None)
        async with working(app, prefetch=10) as worker:
            held = {queue.queue: queue.prefetch for queue in worker.snapshot().queues}
            assert held == {"rows": 200, "other": 10}


async def test_a_worker_until_empty_runs_the_last_small_batch() -> None:
    """What is collected is not done."""
    async with Broker() as broker:
        app, calls = app_at(broker.url), []

        @app.job(queue=Queue("rows", priorities={"high": 2, "low": 1}), batch=Batch(4, within=0.3))
        async def insert(rows: list[int]) -> None:
            calls.append(len(rows))

        async with app.lifespan():
            messages = [insert.with_options(priority=p).message(1) for p in ("high", "low", "low")]
            await app.later_many(messages * 2)
            await asyncio.wait_for(Worker(app, until_empty=True).run(), 20)
        assert sum(calls) == 6
        assert len(calls) == 2


@pytest.mark.parametrize(("size", "jobs"), [(100, 5), (5, 5), (2, 5)])
async def test_a_worker_that_is_recycled_runs_what_it_has_collected(size: int, jobs: int) -> None:
    """Else one that runs fewer jobs than a batch has would never run any."""
    async with Broker() as broker:
        app, calls = app_at(broker.url), []

        @app.job(queue="rows", batch=Batch(size, within=60))
        async def insert(rows: list[int]) -> None:
            calls.append(rows)
            await asyncio.sleep(0.01)

        async with app.lifespan():
            await app.later_many(insert.message(n) for n in range(20))
            worker = Worker(app, concurrency=2, max_jobs=jobs)
            await asyncio.wait_for(worker.run(), 20)
            assert worker.recycled is not None
            assert sorted(n for call in calls for n in call) == list(range(jobs))
            assert broker.virtual_host.queues["rows"].ready == 20 - jobs


async def test_a_batch_that_was_collected_for_long_has_its_time_in_a_worker_that_is_recycled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its timeout counts from its start."""
    monkeypatch.setattr(recycling, "SETTLING", 0.0)
    async with Broker() as broker:
        app, calls = app_at(broker.url, shutdown_timeout=0.1), []

        @app.job(queue="rows", batch=Batch(5, within=60, on_failure="together"), timeout=20)
        async def insert(rows: list[int]) -> None:
            await asyncio.sleep(0.3)
            calls.append(rows)

        async with app.lifespan(), working(app) as worker:
            await insert.later(1)
            await until(lambda: worker.snapshot().held == 1, "collected")
            parts = worker._consuming
            assert parts is not None
            for run in parts.running:
                run.started -= 1000
            worker._recycle("a test")
            await until(lambda: not parts.running, "it has ended")
        assert calls == [[1]]


async def test_a_job_that_is_cancelled_before_its_batch_starts_does_not_run() -> None:
    """It waits, as others do in the queue: it need not be `cancellable`."""
    async with Broker() as broker:
        app, calls, outcomes = app_at(broker.url), [], []

        @app.job(queue="rows", batch=Batch(2, within=60))
        async def insert(rows: list[int]) -> None:
            calls.append(rows)

        def seen(run: Any, outcome: Any) -> None:
            outcomes.append(outcome.word)

        async with app.lifespan(), working(app, observers=[seen]) as worker:
            handle = await insert.later(1)
            await until(lambda: worker.snapshot().held == 1, "collected")
            told = await handle.cancel()
            assert (len(told.cancelled), told.running) == (1, ())
            await until(lambda: outcomes == ["cancelled"], "it has ended")
            await app.later_many(insert.message(n) for n in (2, 3))
            await until(lambda: len(outcomes) == 3, "the others have")
            parts = worker._consuming
            assert parts is not None
            assert parts.intake.running == 0
        assert sorted(calls[0]) == [2, 3]


async def test_a_batch_that_ignores_its_cancellation_and_its_timeout_holds_nothing() -> None:
    """Neither its slot nor its jobs, of which each was cancelled."""
    async with Broker() as broker:
        app, go, began, outcomes = app_at(broker.url), asyncio.Event(), [], []
        options: dict[str, Any] = {"timeout": 0.3, "grace": 0.05, "cancellable": True}

        @app.job(queue="rows", batch=Batch(2, within=60), **options)
        async def insert(rows: list[int]) -> None:
            began.append(rows)
            while not go.is_set():
                try:
                    await go.wait()
                except asyncio.CancelledError:
                    continue

        def seen(run: Any, outcome: Any) -> None:
            outcomes.append(outcome.word)

        async with app.lifespan(), working(app, observers=[seen]) as worker:
            handles = [await insert.later(n) for n in (1, 2)]
            await until(lambda: began, "it runs")
            for handle in handles:
                await handle.cancel()
            await until(lambda: outcomes == ["cancelled"] * 2, "both are over")
            parts = worker._consuming
            assert parts is not None
            assert (parts.intake.running, worker.snapshot().running) == (0, 0)
            go.set()
            await until(lambda: not worker.stuck, "it has ended")
            assert parts.intake.running == 0


def test_what_cannot_be_a_batch_is_refused_when_it_is_declared() -> None:
    """With what to write instead."""
    app = App("refused")
    for options, words in (
        ({"size": 1}, "size is a number from 2"),
        ({"size": True}, "size is a number from 2"),
        ({"size": 5, "within": 0}, "within is a number of seconds above 0"),
        ({"size": 5, "on_failure": "none"}, '"each" or "together"'),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Batch(**options)  # type: ignore[arg-type]

    async def two(rows: list[int], more: int) -> None: ...
    async def none() -> None: ...
    async def one(row: int) -> None: ...
    async def bare(rows: list) -> None: ...  # type: ignore[type-arg]
    async def default(rows: list[int] = []) -> None: ...  # noqa: B006
    async def named(*, rows: list[int]) -> None: ...
    def sync(rows: list[int]) -> None: ...

    for function in (two, none, one, bare, default, named, sync):
        with pytest.raises(ConfigurationError, match=f"{function.__name__}.*"):
            app.job(queue="rows", batch=Batch(5))(function)
    assert not app.jobs


async def test_a_batch_of_one_fails_as_its_job_does() -> None:
    """A run by itself, as in quarantine or with `amqpjobs run`, takes part of `BatchFailed` too."""
    app = App("one")

    @app.job(queue="rows", batch=Batch(5))
    async def insert(rows: list[int]) -> list[int] | None:
        if rows[0] > 1:
            raise BatchFailed({} if rows[0] > 2 else {0: ValueError("2 is bad")})
        return rows if rows[0] else None

    assert [await insert(n) for n in (0, 1, 3)] == [None, 1, None]
    with pytest.raises(ValueError, match="2 is bad"):
        await insert(2)
    assert "1 jobs of the batch have failed" in str(BatchFailed({4: ValueError("no")}))
    async with app.testing(raise_errors=False) as t:
        with pytest.raises(JobFailed, match="2 is bad"):
            asking = asyncio.create_task(insert.request(2))
            await until(lambda: t.enqueued(insert), "asked")
            while not asking.done():
                await t.advance(1)
            await asking
