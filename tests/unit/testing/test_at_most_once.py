"""Jobs that run at most once, in the test kit: whatever comes of them, they do not run again."""

import asyncio

import pytest

from amqpjobs import App, Context, Reject, Retry, RetryAfter, Snooze
from amqpjobs.errors import ConfigurationError, JobFailed
from amqpjobs.settings import Settings


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"))


@pytest.mark.parametrize("error", [ValueError("no"), RetryAfter(1), Reject("no"), SystemExit(3)])
async def test_a_failure_is_a_dead_letter_and_no_retry(app: App, error: BaseException) -> None:
    """Whatever the policy of the app."""
    runs = []

    @app.job(queue="work", at_most_once=True)
    async def job(n: int) -> None:
        runs.append(n)
        raise error

    async with app.testing(raise_errors=False) as t:
        handle = await job.later(1)
        await t.run_until_idle()
        await t.advance(3600)
        assert runs == [1]
        [dead] = t.dead()
        assert dead.reason == ("rejected" if isinstance(error, Reject) else "failed")
        assert (await handle.status()).state == "failed"


async def test_what_succeeds_is_done(app: App) -> None:
    """On the event loop, in a thread; as a request too, whose failure its caller has."""

    @app.job(queue="work", at_most_once=True)
    async def job(n: int) -> int:
        return n

    @app.job(queue="work", at_most_once=True)
    def thread(n: int) -> int:
        if not n:
            raise ValueError
        return n

    async with app.testing(raise_errors=False) as t:
        await job.later(1)
        await thread.later(2)
        await t.run_until_idle()
        assert t.results(job) + t.results(thread) == [1, 2]
        assert await thread.request(3) == 3
        with pytest.raises(JobFailed):
            await thread.request(0)
        assert t.dead() == []


async def test_what_does_not_fit_is_a_dead_letter_before_it_is_acked(app: App) -> None:
    """Nothing of it has run: it may be mended and replayed."""

    @app.job(queue="work", at_most_once=True)
    async def job(n: int) -> None: ...

    async with app.testing(raise_errors=False) as t:
        await app.enqueue(job.message(1))
        await t.run_until_idle()
        message = job.message(2)
        object.__setattr__(message, "body", b"{")
        await app.enqueue(message)
        await t.run_until_idle()
        assert [each.reason for each in t.dead()] == ["invalid"]


async def test_a_job_that_puts_itself_off_runs_later(app: App) -> None:
    """That is its own will: as another message."""
    runs = []

    @app.job(queue="work", at_most_once=True)
    async def job(ctx: Context, n: int) -> None:
        runs.append(n)
        if len(runs) == 1:
            raise Snooze(60)

    async with app.testing() as t:
        await job.later(1)
        await t.run_until_idle()
        assert runs == [1]
        await t.advance(60)
        assert runs == [1, 1]


def test_there_is_nothing_to_retry(app: App) -> None:
    """A policy that says so is refused: of the job, and of a call."""
    with pytest.raises(ConfigurationError, match="at_most_once"):

        @app.job(queue="work", at_most_once=True, retry=Retry(attempts=2))
        async def twice() -> None: ...

    @app.job(queue="work", at_most_once=True, retry=Retry(attempts=1))
    async def once() -> None: ...

    once.with_options(retry=Retry(attempts=1))
    with pytest.raises(ConfigurationError, match="at most once"):
        once.with_options(retry=Retry(attempts=None))


async def test_a_first_delivery_is_none_again(app: App) -> None:
    """Whatever its publisher has written."""

    @app.job(queue="work")
    async def job(ctx: Context) -> tuple[bool, int | None]:
        await asyncio.sleep(0)
        return ctx.redelivered, ctx.delivery_count

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        assert t.results(job) == [(False, None)]
    assert await job() == (False, None)
