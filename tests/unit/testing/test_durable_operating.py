"""Durable jobs are operated: signals, cancelling, undoing, replays, and looks at them."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Job, Retry
from amqpjobs.errors import ConfigurationError, InvalidArguments


class Approval(BaseModel):
    by: str


def make_approved() -> tuple[App, Job[[int], str, Awaitable[str]]]:
    """An app whose job waits for a signal."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="orders", durable=True)
    async def approved(ctx: Context, order: int) -> str:
        answer = await ctx.signal("approval", Approval, timeout=timedelta(days=2))
        return f"{order} by {answer.by}"

    return app, approved


async def test_a_signal_wakes_the_job_that_waits_for_it() -> None:
    """Its value is validated into the type that the job asks for."""
    app, approved = make_approved()
    async with app.testing() as t:
        handle = await approved.later(7)
        await t.run_until_idle()
        assert await handle.signal("approval", Approval(by="ada"))
        await t.run_until_idle()
        assert t.results(approved) == ["7 by ada"]
        assert not await app.signal(handle.id, "approval", {"by": "bob"})


async def test_an_early_signal_is_kept_and_only_the_first_one_counts() -> None:
    """Also before the job has begun."""
    app, approved = make_approved()
    async with app.testing() as t:
        handle = await approved.later(7)
        assert await app.signal(handle.id, "approval", {"by": "ada"})
        assert not await app.signal(handle.id, "approval", {"by": "bob"})
        await t.run_until_idle()
        assert t.results(approved) == ["7 by ada"]


async def test_synchronous_code_sends_a_signal() -> None:
    """By the client, and by the handle."""
    app, approved = make_approved()
    async with app.testing() as t:

        def order() -> tuple[bool, bool]:
            with app.blocking() as client:
                first = client.later(approved.message(7))
                second = client.later(approved.message(8))
                taken = client.signal(first.id, "approval", {"by": "ada"})
                return taken, second.signal("approval", {"by": "bob"})

        assert await asyncio.to_thread(order) == (True, True)
        await t.run_until_idle()
        assert sorted(t.results(approved)) == ["7 by ada", "8 by bob"]


async def test_a_signal_that_cannot_be_one_is_refused() -> None:
    """Before anything is stored."""
    app, approved = make_approved()
    async with app.testing():
        handle = await approved.later(7)
        with pytest.raises(InvalidArguments, match="cannot become JSON"):
            await handle.signal("approval", object())
        with pytest.raises(InvalidArguments, match="the limit is 262144"):
            await handle.signal("approval", "x" * 262_145)
        for job_id, name in (("", "approval"), ("x" * 256, "a"), ("id", ""), ("id", "x" * 201)):
            with pytest.raises(ConfigurationError, match="is a text of 1 to"):
                await app.signal(job_id, name)
