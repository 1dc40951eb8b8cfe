"""One job, here and now, as a worker would run it."""

import asyncio

import pytest

from amqpjobs import App, Context, Reject
from amqpjobs.errors import DecodeError, JobTimeout
from amqpjobs.jobs.run_context import current_context
from amqpjobs.worker.oneoff import run_once


def app_with(function, *processing, **options):
    app = App("a", processing=processing)
    app.job(queue="q", **options)(function)
    return app


async def once(app, body=b"{}", stopping=None):
    [definition] = app.jobs.values()
    return await run_once(app.client.runtime, definition, body, stopping or asyncio.Event())


async def test_it_returns_what_the_handler_returns():
    """Of either kind."""

    async def double(x: int) -> int:
        return 2 * x

    def half(x: int) -> float:
        return x / 2

    assert await once(app_with(double), b"4") == 8
    assert await once(app_with(half), b"4") == 2.0


async def test_the_context_is_that_of_a_worker():
    """With a queue, an id, and the stopping that it was given."""
    stopping = asyncio.Event()

    async def look(ctx: Context) -> tuple[object, ...]:
        assert current_context.get() is ctx
        return ctx.job, ctx.queue, ctx.attempt, ctx.stopping is stopping

    assert await once(app_with(look), stopping=stopping) == ("look", "q", 1, True)


async def test_afterwards_no_job_is_running():
    """What the caller logs next is not the job's."""

    async def fine() -> None: ...

    await once(app_with(fine))
    assert current_context.get() is None


async def test_middleware_is_around_it():
    """As it would be in a worker."""

    async def shout(call_next, context):
        return f"{await call_next(context)}!"

    async def say() -> str:
        return "hello"

    assert await once(app_with(say, shout, shout)) == "hello!!"


async def test_arguments_that_do_not_fit_are_told():
    """Before the handler is called."""

    async def never(x: int) -> None:
        raise AssertionError

    with pytest.raises(DecodeError):
        await once(app_with(never), b'"four"')


async def test_the_timeout_of_the_job_holds():
    """A job that hangs must not hang a release."""

    async def slow() -> None:
        await asyncio.Event().wait()

    with pytest.raises(JobTimeout):
        await once(app_with(slow, timeout=0.01))


async def test_what_the_handler_raises_reaches_the_caller():
    """The exit status follows from it."""

    async def fail() -> None:
        raise LookupError("boom")

    with pytest.raises(LookupError, match="boom"):
        await once(app_with(fail))


@pytest.mark.parametrize("raised", [True, False])
async def test_a_rejection_is_raised_however_it_was_made(raised):
    """There are no dead letters to put it into."""

    async def refuse() -> object:
        if raised:
            raise Reject("no such album")
        return Reject("no such album")

    with pytest.raises(Reject, match="no such album"):
        await once(app_with(refuse))
