"""Handlers behind decorators: what they are, and what they have returned in the end."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest

from amqpjobs import INJECTED, App, Depends, Retry
from amqpjobs.errors import ConfigurationError, InvalidResult
from amqpjobs.jobs.job import definition_of
from amqpjobs.settings import Settings


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"), retry=Retry(attempts=1))


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The timer of a thousand code bases."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            assert time.perf_counter() >= start

    return wrapper


def unnamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that forgets `functools.wraps`."""

    def wrapper(n: int) -> Any:
        return function(n)

    return wrapper


@contextlib.contextmanager
def measured() -> Iterator[None]:
    """A context manager that is used as a decorator."""
    yield


def retried(function: Callable[..., Any]) -> Callable[..., Any]:
    """As tenacity does it: an object does the work, a function stands before it."""

    class Retrying:
        def __call__(self, inner: Callable[..., Any], *args: Any) -> Any:
            for left in (1, 0):
                try:
                    return inner(*args)
                except OSError:
                    if not left:
                        raise
            return None

    calling = Retrying()

    @functools.wraps(function, (*functools.WRAPPER_ASSIGNMENTS, "__defaults__"))
    def wrapped(*args: Any) -> Any:
        return calling(function, *args)

    wrapped.retry = calling  # type: ignore[attr-defined]
    return wrapped


def bridged(function: Callable[..., Any]) -> Callable[..., Any]:
    """For command lines: runs the ``async def`` to its end by itself."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return wrapper


@pytest.mark.parametrize(
    ("decorate", "kind"),
    [
        (timed, "async"),
        (measured(), "async"),
        (retried, "async"),
        (lambda f: timed(measured()(retried(f))), "async"),
        (unnamed, "thread"),
        (bridged, "thread"),
    ],
    ids=["timer", "context manager", "retry", "stack of them", "without wraps", "asyncio.run"],
)
async def test_a_decorated_coroutine_function_runs_to_its_end(app, decorate, kind):
    """Whatever stands before it, the worker awaits it, and has its result."""
    ran = []

    async def handler(n: int) -> int:
        await asyncio.sleep(0)
        ran.append(n)
        return 2 * n

    job = app.job(queue="work", name="job")(decorate(handler))
    assert definition_of(job).kind == kind
    async with app.testing() as t:
        await job.later(4)
        await t.run_until_idle()
        assert (ran, t.results(job)) == ([4], [8])
        assert await job.request(5) == 10
    if kind == "async":
        assert await job(6) == 12


async def test_a_decorated_coroutine_function_has_its_timeout_and_is_cancelled(app):
    """As any ``async def``."""
    ended = []

    @app.job(queue="work", timeout=0.05)
    @timed
    async def job() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async with app.testing(raise_errors=False) as t:
        await job.later()
        await t.run_until_idle()
        assert [d.error for d in t.dead()] == ["amqpjobs.errors.JobTimeout"]
    assert ended == [True]


async def test_what_a_plain_def_returns_is_awaited(app):
    """From a thread, too: on the worker's loop; and what that returns as well."""
    loops = []

    async def inner() -> Any:
        loops.append(asyncio.get_running_loop())

        async def innermost() -> str:
            return "here"

        return innermost()

    @app.job(queue="work")
    def job() -> Any:
        return inner()

    @app.job(queue="work")
    async def forgot() -> Any:
        return inner()

    @app.job(queue="work")
    async def future() -> Any:
        made = asyncio.get_running_loop().create_future()
        made.get_loop().call_soon(made.set_result, "there")
        return made

    async with app.testing() as t:
        for each in (job, forgot, future):
            await each.later()
        await t.run_until_idle()
        assert [*t.results(job), *t.results(forgot), *t.results(future)] == ["here"] * 2 + ["there"]
    assert loops == [asyncio.get_running_loop()] * 2


async def test_what_is_awaited_may_fail(app):
    """It is the job's failure, not one that nobody sees."""

    async def inner() -> None:
        raise LookupError("no such order")

    @app.job(queue="work")
    def job() -> Any:
        return inner()

    async with app.testing() as t:
        await job.later()
        with pytest.raises(LookupError, match="no such order"):
            await t.run_until_idle()


async def test_dependencies_live_as_long_as_a_decorated_handler(app):
    """The session is closed when the handler has ended, not when its coroutine was made."""
    events = []

    async def session() -> AsyncIterator[str]:
        events.append("opened")
        yield "session"
        events.append("closed")

    @app.job(queue="work")
    @timed
    async def job(n: int, session: Annotated[str, Depends(session)] = INJECTED) -> None:
        await asyncio.sleep(0)
        events.append(f"{session} used")

    async with app.testing() as t:
        await job.later(1)
        await t.run_until_idle()
    assert events == ["opened", "session used", "closed"]


def rows(n: int) -> Iterator[int]:
    yield n


async def async_rows(n: int) -> AsyncIterator[int]:
    yield n


@pytest.mark.parametrize("make", [rows, async_rows, contextlib.contextmanager(rows)])
@pytest.mark.parametrize("decorate", [timed, unnamed])
async def test_a_generator_fails_the_job(app, make, decorate):
    """Its body has not run, so it is not done; the error says what to do."""
    job = app.job(queue="work", name="job")(decorate(make))
    async with app.testing() as t:
        await job.later(1)
        with pytest.raises(InvalidResult, match="body has not run.*return list"):
            await t.run_until_idle()


@pytest.mark.parametrize("make", [rows, async_rows, contextlib.contextmanager(rows)])
@pytest.mark.parametrize("decorate", [lambda f: f, measured()])
def test_a_generator_is_refused_when_it_is_declared(app, make, decorate):
    """Also behind what contextlib makes of it, and around it."""
    with pytest.raises(ConfigurationError, match="a generator cannot be a job"):
        app.job(queue="work", name="job")(decorate(make))


async def test_a_decorator_may_use_a_generator_up(app):
    """What it makes of it is a result like any other."""

    def listed(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> list[Any]:
            return list(function(*args))

        wrapper.__annotations__["return"] = list[int]
        return wrapper

    job = app.job(queue="work")(listed(rows))
    async with app.testing() as t:
        await job.later(3)
        await t.run_until_idle()
        assert t.results(job) == [[3]]
