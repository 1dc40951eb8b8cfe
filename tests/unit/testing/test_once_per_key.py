"""``unique=`` and ``debounce=`` in the test kit."""

import asyncio
import logging

import pytest

from amqpjobs import App, Context, Debounce, Retry, Unique
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"), retry=Retry(2, jitter=0))


async def test_a_second_call_is_the_job_that_is_there(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    """Until it has ended: then another call is a new job."""
    done: list[tuple[int, str]] = []

    @app.job(queue="index", unique=Unique(key="document"))
    async def index(document: int, text: str) -> None:
        done.append((document, text))

    caplog.set_level(logging.INFO)
    async with app.testing() as t:
        first = await index.later(7, "a")
        second = await index.later(7, "b")
        other = await index.later(8, "c")
        assert (first.existing, second.existing, other.existing) == (False, True, False)
        assert second == first
        assert [r.message for r in caplog.records].count("job is there already") == 1
        await t.run_until_idle()
        assert sorted(done) == [(7, "a"), (8, "c")]
        third = await index.later(7, "d")
        assert not third.existing
        assert (await second.status()) is not None
        many = await app.later_many([index.message(7, "e"), index.message(9, "f")])
        assert [handle.existing for handle in many] == [True, False]
        with pytest.raises(ConfigurationError, match="use `later`"):
            await index.request(7, "g")


async def test_a_claim_is_kept_over_retries_and_ends_with_the_dead_letter(app: App) -> None:
    """A replayed one claims again when it runs."""
    fails = True

    @app.job(queue="index", unique=Unique())
    async def index(document: int) -> None:
        if fails:
            raise OSError("no")

    async with app.testing(raise_errors=False) as t:
        first = await index.later(7)
        await t.run_until_idle()
        assert (await index.later(7)) == first  # it waits for its retry
        await t.advance(3600)
        assert len(t.dead()) == 1
        again = await index.later(7)
        assert not again.existing
        fails = False
        await t.run_until_idle()
        assert not (await index.later(7)).existing


async def test_until_the_start(app: App) -> None:
    """A call while it runs is a new job."""
    going, go_on = asyncio.Event(), asyncio.Event()
    done = 0

    @app.job(queue="index", unique=Unique(until="start"))
    async def index() -> None:
        nonlocal done
        going.set()
        await go_on.wait()
        done += 1

    async with app.testing() as t:
        await index.later()
        assert (await index.later()).existing
        running = asyncio.create_task(t.run_until_idle())
        await going.wait()
        assert not (await index.later()).existing
        go_on.set()
        await running
        await t.run_until_idle()
        assert done == 2


async def test_a_claim_of_a_job_that_is_lost_ends(app: App) -> None:
    """And one of a delayed job lasts from when it is due."""

    @app.job(queue="index", unique=Unique(ttl=60))
    async def index(n: int) -> None: ...

    async with app.testing() as t:
        delayed = await index.with_options(delay=1000).later(1)
        await t.advance(900)
        assert (await index.later(1)) == delayed
        assert (await index.with_options(expires=5).later(1)).existing


async def test_a_debounce_runs_once_with_the_newest_arguments(app: App) -> None:
    """When the calls have stopped coming; and at most so long after the first."""
    done: list[str] = []

    @app.job(queue="index", debounce=Debounce(5, key="document", at_most=12))
    async def index(document: int, text: str) -> None:
        done.append(text)

    async with app.testing() as t:
        first = await index.later(7, "a")
        await t.advance(4)
        second = await index.later(7, "ab")
        assert (first.existing, second.existing) == (False, True)
        assert first == second
        await t.advance(4)
        assert done == []
        await t.advance(1)
        assert done == ["ab"]
        for n in range(4):
            await index.later(7, f"c{n}")
            await t.advance(4)
        assert done == ["ab", "c2"]
        await t.advance(60)
        assert done == ["ab", "c2", "c3"]
        status = await first.status()
        assert status is not None
        assert status.state == "done"
        with pytest.raises(ConfigurationError, match="leave delay="):
            await index.with_options(delay=5).later(7, "d")


async def test_a_debounce_that_waits_for_its_run(app: App) -> None:
    """One runs, one waits with the newest arguments."""
    going, go_on = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    @app.job(queue="index", debounce=Debounce(1, last=True))
    async def index(ctx: Context) -> None:
        going.set()
        await go_on.wait()
        done.append(ctx.job_id)

    async with app.testing() as t:
        first = await index.later()
        running = asyncio.create_task(t.advance(1))
        await going.wait()
        second = await index.later()
        assert not second.existing
        assert (await index.later()) == second
        go_on.set()
        await running
        await t.advance(1)
        assert done == [first.id, second.id]
