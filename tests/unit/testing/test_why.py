"""Why a job does not run, in an app that is tested: each reason, and where it comes from."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from amqpjobs import App, Context, Debounce, Limit, Reject, Retry, Why
from amqpjobs.errors import ConfigurationError
from amqpjobs.state.why.broker import QueueSeen
from amqpjobs.state.why.words import of_queue


def sources(found: Why) -> set[str]:
    """Where its facts come from."""
    return {fact.source for fact in found.facts}


async def test_a_job_that_waits_in_its_queue() -> None:
    """A worker holds it; or its queue is paused by an operator."""
    app = App("shop")

    @app.job(queue="mails")
    async def send(n: int) -> None: ...

    async with app.testing() as t:
        await t.run_until_idle()
        handles = [await send.later(n) for n in range(3)]
        found = await app.why(handles[-1].id)  # its worker holds it, and has not begun
        assert (found.id, found.reason) == (handles[-1].id, "received")
        await app.fleet.pause("mails", for_=3600, by="ada")
        found = await app.why(handles[-1].id)
        assert (found.reason, "is paused by ada until " in found.sentence) == ("paused", True)
        await app.fleet.resume("mails")
        await t.run_until_idle()
        found = await app.why(handles[-1].id)
        assert (found.reason, found.sentence[:10]) == ("done", "it is done")


def test_a_job_that_waits_behind_others() -> None:
    """How many at most, and how many workers there are."""
    seen = QueueSeen("mails", True, 3, 2, False, None, None, "10/m")
    ahead = "it waits behind at most 2 others in the queue mails"
    assert of_queue(seen) == ("queued", f"{ahead}, which 2 workers consume, at 10/m each")
    gone = QueueSeen("mails", False, 0, 0, False, None, None, None)
    assert of_queue(gone)[0] == "missing"


async def test_a_job_that_nobody_consumes() -> None:
    """Before any worker has begun."""
    app = App("shop")

    @app.job(queue="mails")
    async def send() -> None: ...

    async with app.testing():
        handle = await send.later()
        found = await app.why(handle.id)
        assert (found.reason, "where 1 job waits" in found.sentence) == ("unconsumed", True)


async def test_a_job_that_is_delayed_or_retried() -> None:
    """Until when; after a failed run with its error."""
    app = App("shop", retry=Retry(attempts=2, first=600, jitter=False))

    @app.job(queue="mails")
    async def send() -> None:
        raise ValueError("no route")

    async with app.testing(raise_errors=False) as t:
        delayed = await send.with_options(delay=timedelta(hours=2)).later()
        failed = await send.later()
        await t.run_until_idle()
        found = await app.why(delayed.id)
        assert (found.reason, found.sentence[:20]) == ("delayed", "it is delayed until ")
        found = await app.why(failed.id)
        assert found.reason == "delayed"
        assert "after a failed run" in found.sentence
        assert "no route" in found.sentence
        await t.advance(601)
        found = await app.why(failed.id)
        assert found.reason == "failed"
        assert "it is a dead letter of the queue mails (failed)" in found.sentence


async def test_a_job_that_waits_for_a_limit() -> None:
    """With the job that holds it; and one that waits for a debounce."""
    app = App("shop")
    go = asyncio.Event()

    @app.job(queue="sync", limit=Limit(1))
    async def sync() -> None:
        await go.wait()

    @app.job(queue="index", debounce=Debounce(60))
    async def index() -> None: ...

    async with app.testing() as t:
        first, second = await sync.later(), await sync.later()
        task = asyncio.create_task(t.run_until_idle())
        while (await app.why(second.id)).reason != "limit":
            await asyncio.sleep(0.05)
        found = await app.why(second.id)
        assert f"held by the job {first.id}" in found.sentence
        assert "limit" in sources(found)
        assert (await app.why(first.id)).reason == "running"
        go.set()
        await task
        debounced = await index.later()
        assert (await app.why(debounced.id)).reason == "debounced"


async def test_a_durable_job_that_waits() -> None:
    """For a child, which waits for a signal; one level deep."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="parcels", durable=True, name="ship")
    async def ship(ctx: Context) -> None:
        await ctx.signal("fetched", None, timeout=timedelta(days=1))

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context) -> None:
        await asyncio.gather(ctx.call("ship", ship), ctx.sleep("rest", timedelta(hours=1)))

    async with app.testing() as t:
        handle = await fulfil.later()
        await t.run_until_idle()
        found = await app.why(handle.id)
        assert found.reason == "suspended"
        assert "it waits for the job ship " in found.sentence
        assert "(ship): it waits for the signal 'fetched' until " in found.sentence
        assert "and for its time (rest) until " in found.sentence
        assert {"durable", "child"} <= sources(found)


async def test_a_durable_job_whose_child_is_a_dead_letter() -> None:
    """The error of the child is that of its parent."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="parcels", name="ship")
    async def ship() -> None:
        raise Reject("none left")

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context) -> None:
        await ctx.call("ship", ship)

    async with app.testing(raise_errors=False) as t:
        handle = await fulfil.later()
        await t.run_until_idle()
        found = await app.why(handle.id)
        assert (found.reason, "none left" in found.sentence) == ("failed", True)
        [step] = await t.steps(handle.id)
        child = await app.why(str(step.child_id))
        assert "a dead letter of the queue parcels (rejected)" in child.sentence


async def test_a_message_that_is_still_in_the_outbox() -> None:
    """And one that was never there."""
    app = App("shop")

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context) -> None:
        await ctx.signal("go", None)

    async with app.testing() as t:
        handle = await fulfil.later()
        await t.run_until_idle()
        await app.signal(handle.id, "go")
        assert (await app.why(handle.id)).reason == "outbox"
        unknown = await app.why("an-id")
        assert (unknown.reason, unknown.facts) == ("unknown", ())
        with pytest.raises(ConfigurationError, match="the id of a job"):
            await app.why("")


async def test_what_cannot_be_seen_is_said() -> None:
    """Without a store, the broker and the workers say what they can."""
    app, begun, go = App("shop", retry=Retry(attempts=1)), asyncio.Event(), asyncio.Event()

    @app.job(queue="mails", track=False)
    async def send(*, well: bool) -> None:
        begun.set()
        await go.wait()
        if not well:
            raise Reject("no such address")

    async with app.testing(raise_errors=False) as t:
        handle = await send.later(well=False)
        found: Any = await app.why(handle.id)
        assert (found.reason, len(found.unseen) > 0) == ("unknown", True)
        task = asyncio.create_task(t.run_until_idle())
        await begun.wait()
        assert (await app.why(handle.id)).reason == "running"
        go.set()
        await task
        found = await app.why(handle.id)
        assert (found.reason, "dead letter" in sources(found)) == ("failed", True)
        assert "(rejected): no such address" in found.sentence
