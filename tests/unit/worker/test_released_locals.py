"""What a handler held when it failed is gone when the job has ended, without the garbage collector.

An exception has a traceback, that has frames, and these have variables: if one of them leads to the
exception again, all of it waits for the collector, which may be long.
"""

import asyncio
import gc
import io
import json
import logging
import time
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel

from amqpjobs import App, Batch, Reject, Retry, RetryAfter, Snooze
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import JobTimeout
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.run_context import plain_context
from amqpjobs.telemetry.log_stream import LogWriter
from amqpjobs.telemetry.logs import JsonFormatter
from amqpjobs.worker.execution.runner import awaited, value_of
from tests.support.waiting import until
from tests.support.workers import app_at, working


class Large:
    """What a handler holds."""


HELD: "list[weakref.ref[Large]]" = []


def hold() -> Large:
    """An object that this test follows."""
    made = Large()
    HELD.append(weakref.ref(made))
    return made


def alive() -> int:
    return sum(ref() is not None for ref in HELD)


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Only what is held by nobody is gone."""
    HELD.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The log as the command line writes it, and not pytest's, which keeps the exceptions."""
    text = io.StringIO()
    handler = LogWriter(text)
    handler.setFormatter(JsonFormatter())
    monkeypatch.setattr(logging.getLogger("amqpjobs.worker"), "callHandlers", handler.handle)
    return text


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in the process."""
    async with Broker() as running:
        yield running


def raising() -> NoReturn:
    """Fail."""
    kept = hold()
    raise ValueError(f"no {type(kept).__name__}")


def caused() -> NoReturn:
    """Fail with a cause."""
    kept = hold()
    try:
        raising()
    except ValueError as cause:
        raise KeyError(type(kept).__name__) from cause


def chained() -> NoReturn:
    """Fail with a cause, which has one."""
    kept = hold()
    try:
        caused()
    except KeyError as cause:
        raise RuntimeError(type(kept).__name__) from cause


def in_context() -> NoReturn:
    """Fail while handling a failure."""
    kept = hold()
    try:
        raising()
    except ValueError:
        raise RuntimeError(type(kept).__name__)  # noqa: B904 - on purpose


def verdict(ruling: Callable[[], Exception]) -> Callable[[], NoReturn]:
    """Raise a verdict."""

    def handler() -> NoReturn:
        kept = hold()
        raise ruling() from ValueError(type(kept).__name__)

    return handler


FAILING = {
    "plain": raising,
    "cause": chained,
    "context": in_context,
    "reject": verdict(lambda: Reject("no")),
    "retry after": verdict(lambda: RetryAfter(3600)),
    "snooze": verdict(lambda: Snooze(3600)),
}


def add(app: App, kind: str, fail: Callable[[], NoReturn], **options: Any) -> Any:
    """A job that fails so."""
    if kind == "async":

        async def job() -> None:
            kept = hold()
            await asyncio.sleep(0)
            fail()
            del kept

        return app.job(queue="work", name="job", **options)(job)
    if kind == "method":

        class Service(BaseModel):
            """Its method is the handler."""

            @app.job(queue="work", name="job", **options)
            def job(self) -> None:
                kept = hold()
                fail()
                del kept

        return Service().job

    def job_of_thread() -> None:
        kept = hold()
        fail()
        del kept

    return app.job(queue="work", name="job", **options)(job_of_thread)


class Ends:
    """An observer that looks at the error's traceback, and keeps its text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.words: list[str] = []
        self.failures: list[Any] = []

    def __call__(self, run: Any, outcome: Any) -> None:
        error = outcome.error
        text = "" if error is None else "".join(traceback.format_exception(error))
        self.texts.append(text)
        self.words.append(outcome.word)
        self.failures.append(outcome.failure)


async def ended(app: App, job: Any, *, more: Callable[[], None] = lambda: None) -> Ends:
    """Run one, and wait until what it held is gone."""
    ends = Ends()
    async with app.lifespan(), working(app, observers=[ends]) as worker:
        await job.later()
        await until(lambda: len(HELD) > 0, "the handler has begun")
        more()
        await until(lambda: bool(ends.words), "it has ended")
        await until(lambda: worker.snapshot().running == 0, "nothing runs")
        await until(lambda: alive() == 0, "what it held is gone", timeout=3)
    return ends


@pytest.mark.parametrize("kind", ["async", "plain", "method"])
@pytest.mark.parametrize("failing", FAILING)
async def test_what_a_failed_job_held_is_gone(broker: Broker, kind: str, failing: str) -> None:
    """And the observers have seen the traceback down to the line that has raised."""
    app = app_at(broker.url)
    ends = await ended(app, add(app, kind, FAILING[failing]))
    if failing in ("plain", "cause", "context"):
        assert ends.words == ["failed"]
        assert 'raise ValueError(f"no' in ends.texts[0]


@pytest.mark.parametrize("kind", ["async", "plain", "method"])
async def test_what_a_retried_job_held_is_gone(broker: Broker, kind: str) -> None:
    """It waits for its next attempt as a message, and no longer as objects."""
    app = app_at(broker.url)
    ends = await ended(
        app, add(app, kind, raising, retry=Retry(attempts=2, first=3600, limit=3600))
    )
    assert ends.words == ["retried"]


@pytest.mark.parametrize("end", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
async def test_however_a_thread_ends(broker: Broker, end: type[BaseException]) -> None:
    """These are no `Exception`, or have ways of their own through a coroutine."""

    def fail() -> NoReturn:
        kept = hold()
        raise end(type(kept).__name__)

    app = app_at(broker.url)
    assert (await ended(app, add(app, "plain", fail))).words == ["failed"]


async def test_what_a_job_held_that_ran_too_long_is_gone(broker: Broker) -> None:
    """It was cancelled where it waited."""
    app = app_at(broker.url)

    @app.job(queue="work", timeout=0.05)
    async def job() -> None:
        kept = hold()
        await asyncio.sleep(3600)
        del kept

    assert "JobTimeout" in (await ended(app, job)).texts[0]


async def test_what_a_thread_held_that_ran_too_long_is_gone_when_it_ends(broker: Broker) -> None:
    """It may raise when nobody waits for it any more."""
    app, over = app_at(broker.url), False

    @app.job(queue="work", timeout=0.05)
    def job() -> None:
        kept = hold()
        while not over:
            time.sleep(0.01)
        raise ValueError(type(kept).__name__)

    def late() -> None:
        asyncio.get_running_loop().call_later(0.3, end)

    def end() -> None:
        nonlocal over
        over = True

    assert "JobTimeout" in (await ended(app, job, more=late)).texts[0]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_what_a_cancelled_job_held_is_gone(broker: Broker, kind: str) -> None:
    """The caller gave up."""
    app, over = app_at(broker.url), False

    async def waits() -> None:
        kept = hold()
        await asyncio.sleep(3600)
        del kept

    def blocks() -> None:
        kept = hold()
        while not over:
            time.sleep(0.01)
        raise ValueError(type(kept).__name__)

    job: Any = app.job(queue="work", name="job")(waits if kind == "async" else blocks)
    ends = Ends()
    async with app.lifespan(), working(app, observers=[ends]):
        asking = asyncio.create_task(job.request())
        await until(lambda: bool(HELD), "the handler has begun")
        asking.cancel()
        await until(lambda: bool(ends.words), "it was cancelled")
        over = True
        await until(lambda: alive() == 0, "what it held is gone", timeout=3)
    assert ends.words == ["cancelled"]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_the_log_line_and_the_dead_letter_say_where(
    broker: Broker, kind: str, log: io.StringIO
) -> None:
    """Down to the line that has raised."""
    app = app_at(broker.url)
    job = add(app, kind, raising)
    ends = await ended(app, job)
    [line] = [line for line in map(json.loads, log.getvalue().splitlines()) if "traceback" in line]
    assert line["event"] == "job failed"
    assert 'raise ValueError(f"no' in line["traceback"]
    assert "raising" in ends.failures[0].frames[0]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_test_gets_the_error_with_its_traceback(kind: str) -> None:
    """`app.testing()` raises what the job has raised, and that can be debugged."""
    app = App("tests", retry=Retry(attempts=1))
    job = add(app, kind, raising)
    async with app.testing() as t:
        await job.later()
        with pytest.raises(ValueError, match="no Large") as raised:
            await t.run_until_idle()
        names = [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]
        assert names[-1] == "raising"
        frames = [frame for frame, _ in traceback.walk_tb(raised.value.__traceback__)]
        assert isinstance(frames[-1].f_locals["kept"], Large), "a debugger sees its variables"


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_what_a_job_held_in_a_process_of_its_own_is_gone(timeout: float | None) -> None:
    """An ``async def`` runs there on an event loop, which is used for the next job as well."""
    app = App("tests", retry=Retry(attempts=1))

    @app.job(queue="work", timeout=timeout)
    async def job() -> None:
        kept = hold()
        if timeout is not None:
            await asyncio.sleep(3600)
        raise ValueError(f"no {type(kept).__name__}")

    with asyncio.Runner() as events:
        calling = awaited(definition_of(job), plain_context("job", "id"), ((), {}), None)
        text = ""
        try:
            value_of(events.run(calling))
        except (ValueError, JobTimeout) as error:
            text = "".join(traceback.format_exception(error))
        assert ("no Large" if timeout is None else "0.05 s") in text.rstrip().splitlines()[-1]
        assert "in job" in text
        assert alive() == 0


@pytest.mark.parametrize("on_failure", ["each", "together"])
async def test_of_a_batch_that_failed(broker: Broker, on_failure: Any) -> None:
    """One error is that of many jobs, each of which has a task."""
    app = app_at(broker.url)

    @app.job(queue="rows", batch=Batch(2, within=60, on_failure=on_failure))
    async def insert(rows: list[int]) -> None:
        kept = hold()
        raise ValueError(f"no {type(kept).__name__}")

    async with app.lifespan(), working(app) as worker:
        await app.later_many(insert.message(n) for n in range(2))
        await until(lambda: HELD and not worker.snapshot().running, "they have failed")
        await until(lambda: not alive(), "nothing is held")
