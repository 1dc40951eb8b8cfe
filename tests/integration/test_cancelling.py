"""Jobs that are cancelled by their id, on real brokers: waiting, delayed, retried, running."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.errors import ConfigurationError, JobFailed
from amqpjobs.worker.run import Run
from tests.support.amqp import count, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

SOON = Retry(attempts=3, first=1, factor=1, jitter=False)


class Jobs:
    """The same jobs on whichever app, and the runs that have ended."""

    def __init__(self, url: str, **settings: object) -> None:
        self.app: App = app_at(url, **settings)
        self.begun: list[str] = []
        self.ended: dict[str | None, tuple[str, object]] = {}
        self.go = threading.Event()

        @self.app.job(queue=Queue("work", priorities={"high": 2, "low": 1}), name="quick")
        async def quick(name: str) -> str:
            self.begun.append(name)
            return name

        @self.app.job(queue="work", name="hang", cancellable=True)
        async def hang(name: str) -> None:
            self.begun.append(name)
            await asyncio.Event().wait()

        @self.app.job(queue="work", name="stubborn")
        async def stubborn(name: str) -> None:
            self.begun.append(name)
            while not self.go.is_set():
                await asyncio.sleep(0.01)

        @self.app.job(queue="work", name="fail", retry=SOON, cancellable=True)
        async def fail(name: str) -> None:
            self.begun.append(name)
            raise ValueError(name)

        @self.app.job(queue="work", name="thread", cancellable=True)
        def thread(ctx: Context, name: str) -> None:
            self.begun.append(name)
            while not ctx.cancelled:
                self.go.wait(0.01)

        self.quick, self.hang, self.stubborn, self.fail = quick, hang, stubborn, fail
        self.thread = thread

    def observe(self, run: Run, outcome: Any) -> None:
        """Remember how a run has ended."""
        name = run.context.job_id if run.context is not None else None
        self.ended[name] = (outcome.word, outcome.detail(0).get("reason"))


@pytest.fixture
async def jobs(broker: VirtualHost) -> AsyncIterator[Jobs]:
    made = Jobs(broker.url)
    async with made.app.lifespan():
        yield made


async def test_what_waits_does_not_run(jobs: Jobs) -> None:
    """In the queue, of another priority, delayed, and after a retry; the next job runs."""
    async with working(jobs.app, concurrency=1, observers=[jobs.observe]):
        blocking = await jobs.stubborn.later("blocking")
        await until(lambda: jobs.begun, "the only slot is taken")
        waiting = await jobs.quick.later("waiting")
        low = await jobs.quick.with_options(priority="high").later("high")
        delayed = await jobs.quick.with_options(delay=2).later("delayed")
        told = [await handle.cancel(reason="twice") for handle in (waiting, low, delayed)]
        assert all(each.workers and not each.cancelled for each in told)
        after = await jobs.quick.later("after")
        jobs.go.set()
        ids = {handle.id for handle in (waiting, low, delayed, blocking, after)}
        await until(lambda: ids <= set(jobs.ended), "all have ended")
    assert jobs.begun == ["blocking", "after"]
    for handle in (waiting, low, delayed):
        assert jobs.ended[handle.id] == ("cancelled", "twice")


async def test_a_retry_that_waits_does_not_run(jobs: Jobs) -> None:
    """Its copy is in the delays, or on its way there."""
    async with working(jobs.app, observers=[jobs.observe]):
        handle = await jobs.fail.later("failing")
        await until(lambda: jobs.ended, "it has failed once")
        assert (await handle.cancel()).cancelled == ()
        await until(lambda: jobs.ended[handle.id][0] == "cancelled", "its copy has come")
    assert jobs.begun == ["failing"]


async def test_what_runs_is_cancelled_where_it_may_be(broker: VirtualHost, jobs: Jobs) -> None:
    """``async def`` at once; a thread when it looks; another runs on, and is told so."""
    async with working(jobs.app, observers=[jobs.observe]):
        hang, thread = await jobs.hang.later("hang"), await jobs.thread.later("thread")
        stubborn = await jobs.stubborn.later("stubborn")
        await until(lambda: len(jobs.begun) == 3, "all run")
        for handle in (hang, thread):
            told = await handle.cancel(reason="enough")
            assert len(told.cancelled) == 1
            await until(lambda handle=handle: handle.id in jobs.ended, "it has ended")
            assert jobs.ended[handle.id] == ("cancelled", "enough")
        assert len((await stubborn.cancel()).running) == 1
        jobs.go.set()
        await until(lambda: stubborn.id in jobs.ended, "it has ended by itself")
        assert jobs.ended[stubborn.id][0] == "done"
    async with stranger(broker.url) as channel:
        assert [await count(channel, queue) for queue in ("work", "work.dead")] == [0, 0]


async def test_a_caller_gets_an_answer(jobs: Jobs) -> None:
    """When the run is cancelled, and when a worker drops what was waiting."""
    async with working(jobs.app, concurrency=1):
        running, waiting = jobs.hang.message("hang"), jobs.quick.message("waiting")
        asked = [asyncio.create_task(jobs.app.request(m, timeout=30)) for m in (running, waiting)]
        await until(lambda: jobs.begun, "the first runs")
        await jobs.app.cancel(waiting.id, reason="not needed")
        await jobs.app.cancel(running.id, reason="too slow")
        for task, reason in zip(asked, ("too slow", "not needed"), strict=True):
            with pytest.raises(JobFailed, match=reason) as caught:
                await task
            assert caught.value.error == "cancelled"
    assert jobs.begun == ["hang"]


async def test_without_a_store_only_workers_that_are_there_know(jobs: Jobs) -> None:
    """As the guide says; nobody is told that it is cancelled."""
    handle = await jobs.quick.later("waiting")
    told = await handle.cancel()
    assert (told.workers, told.stored) == ((), False)
    async with working(jobs.app, observers=[jobs.observe]):
        await until(lambda: jobs.ended, "it has run")
    assert jobs.begun == ["waiting"]


async def test_what_no_message_can_have_is_said(jobs: Jobs) -> None:
    """Before anybody is asked."""
    for wrong in ("", "x" * 256, "\0", 7):
        with pytest.raises(ConfigurationError, match="a text of 1 to 255 bytes"):
            await jobs.app.cancel(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="the reason of a cancellation is a text"):
        await jobs.app.cancel("an-id", reason=5)  # type: ignore[arg-type]


async def test_with_a_store_later_workers_know(broker: VirtualHost, tmp_path: Path) -> None:
    """They load what is remembered at their start."""
    jobs = Jobs(broker.url, store_url=f"sqlite:///{tmp_path}/status.db")
    async with jobs.app.lifespan():
        handle = await jobs.quick.later("waiting")
        told = await handle.cancel(reason="twice")
        assert (told.workers, told.stored) == ((), True)
        await handle.cancel(reason="thrice")
        async with working(jobs.app, observers=[jobs.observe]):
            await until(lambda: jobs.ended, "it has come")
        assert jobs.ended[handle.id] == ("cancelled", "thrice")
    assert jobs.begun == []


async def test_workers_of_another_app_are_not_asked(broker: VirtualHost, jobs: Jobs) -> None:
    """Ids are unique, and yet: an app answers for its own jobs."""
    other = App("other", settings=jobs.app.settings)

    @other.job(queue="elsewhere")
    async def job() -> None: ...

    async with working(other):
        assert (await jobs.app.cancel("an-id")).workers == ()
        assert len((await other.cancel("an-id")).workers) == 1
