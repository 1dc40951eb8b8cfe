"""Durable jobs are operated: signals, cancelling, undoing, replays, and looks at them."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Job, Retry
from amqpjobs.client.deadletters.selection import EVERYTHING
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
            with pytest.raises(ConfigurationError, match="must be a text of 1 to"):
                await app.signal(job_id, name)


class Shop:
    """An app whose durable job charges, calls a job that is durable itself, and waits."""

    def __init__(self) -> None:
        self.app = app = App("shop", retry=Retry(attempts=1))
        self.done: list[str] = []
        self.broken = True

        @app.job(queue="payments")
        async def charge(order: int) -> str:
            self.done.append("charge")
            return f"payment {order}"

        @app.job(queue="payments", name="refund")
        async def refund(payment: str) -> None:
            if payment == "payment 13" and self.broken:
                raise ValueError("the card has expired")
            self.done.append(f"refund {payment}")

        @app.job(queue="parcels")
        async def unpack() -> None:
            self.done.append("unpack")

        @app.job(queue="parcels", durable=True, name="ship")
        async def ship(ctx: Context, order: int) -> str:
            await ctx.step("pack", self.pack, undo=unpack)
            await ctx.signal("fetched", None)
            return "sent"

        @app.job(queue="orders", durable=True, name="fulfil")
        async def fulfil(ctx: Context, order: int) -> str:
            payment = await ctx.call("charge", charge, order, undo=refund)
            return f"{payment} {await ctx.call('ship', ship, order)}"

        self.fulfil, self.ship, self.refund = fulfil, ship, refund

    async def pack(self) -> None:
        self.done.append("pack")


async def test_a_cancelled_job_that_waits_ends_with_its_children() -> None:
    """Nothing is undone unless that is asked for; then it can still be."""
    shop = Shop()
    async with shop.app.testing() as t:
        handle = await shop.fulfil.later(7)
        await t.run_until_idle()
        assert [run.outcome for run in t.runs()].count("suspended") == 3
        await handle.cancel(reason="ordered twice")
        await t.run_until_idle()
        ended = {run.job: run.outcome for run in t.runs()}
        assert (ended["fulfil"], ended["ship"]) == ("cancelled", "cancelled")
        assert shop.done == ["charge", "pack"]
        await handle.cancel(undo=True)
        await t.run_until_idle()
        assert sorted(shop.done[2:]) == ["refund payment 7", "unpack"]


async def test_a_job_that_is_cancelled_with_undo_is_undone_with_its_children() -> None:
    """Those that are durable jobs, too."""
    shop = Shop()
    async with shop.app.testing() as t:
        handle = await shop.fulfil.later(7)
        await t.run_until_idle()
        await shop.app.cancel(handle.id, undo=True)
        await t.run_until_idle()
        assert sorted(shop.done) == ["charge", "pack", "refund payment 7", "unpack"]
        assert t.dead() == []


async def test_a_job_that_is_cancelled_while_it_runs_ends_when_it_would_wait() -> None:
    """It is not cancellable, so that its run goes on until then."""
    app = App("shop")
    runs: list[str] = []

    @app.job(queue="orders", durable=True)
    async def waits(ctx: Context) -> None:
        if not runs:
            await app.cancel(ctx.job_id)
        runs.append("run")
        await ctx.signal("never", None)

    async with app.testing() as t:
        await waits.later()
        await t.run_until_idle()
        assert [run.outcome for run in t.runs()] == ["suspended", "cancelled"]
        assert runs == ["run"]


async def test_an_undo_that_failed_is_loud_and_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As another job, so that the old dead letter changes nothing."""
    shop = Shop()
    async with shop.app.testing(raise_errors=False) as t:
        handle = await shop.fulfil.later(13)
        await t.run_until_idle()
        await handle.cancel(undo=True)
        await t.run_until_idle()
        (line,) = [r for r in caplog.records if r.message == "undo of a durable job failed"]
        assert (line.levelname, line.__dict__["job_id"]) == ("ERROR", handle.id)
        (old,) = t.dead()
        assert old.job == "refund"
        shop.broken = False
        assert await shop.app.undo(handle.id) == "undoing"
        await t.run_until_idle()
        assert shop.done[-1] == "refund payment 13"
        assert await shop.app.undo(handle.id) == "undone"
        assert len({run.id for run in t.runs(shop.refund)}) == 2


async def test_a_job_that_is_done_is_undone_and_one_that_runs_is_not() -> None:
    """Nor one that is unknown."""
    shop = Shop()
    async with shop.app.testing() as t:
        handle = await shop.fulfil.later(7)
        await t.run_until_idle()
        assert await shop.app.undo(handle.id) == "suspended"
        assert await shop.app.undo("an-id") is None
        (child,) = {run.id for run in t.runs(shop.ship)}
        await shop.app.signal(child, "fetched")
        await t.run_until_idle()
        assert t.results(shop.fulfil) == ["payment 7 sent"]
        assert await shop.app.undo(handle.id) == "undoing"
        await t.run_until_idle()
        assert shop.done[2:] == ["refund payment 7"]


async def test_a_cancelled_job_is_undone_later_with_its_children() -> None:
    """What they had done, and was kept until then."""
    shop = Shop()
    async with shop.app.testing() as t:
        handle = await shop.fulfil.later(7)
        await t.run_until_idle()
        await handle.cancel()
        await t.run_until_idle()
        assert shop.done == ["charge", "pack"]
        assert await shop.app.undo(handle.id) == "undoing"
        await t.run_until_idle()
        assert sorted(shop.done[2:]) == ["refund payment 7", "unpack"]


class Replayed:
    """An app whose durable job fails behind two steps, as long as it is broken."""

    def __init__(self) -> None:
        self.app = app = App("shop", retry=Retry(attempts=1))
        self.done: list[str] = []
        self.broken = True

        @app.job(queue="orders", durable=True)
        async def order(ctx: Context) -> str:
            for name in ("one", "two", "three"):
                await ctx.step(name, self.do, name)
            if self.broken:
                raise ValueError("broken")
            return "well"

        @app.job(queue="orders")
        async def plain() -> None:
            raise ValueError("broken")

        self.order, self.plain = order, plain

    async def do(self, name: str) -> None:
        self.done.append(name)


@pytest.mark.parametrize(
    ("how", "again"),
    [
        ({}, []),
        ({"from_step": "two"}, ["two", "three"]),
        ({"restart": True}, ["one", "two", "three"]),
    ],
)
async def test_a_replay_goes_on_where_it_is_told(how: dict[str, Any], again: list[str]) -> None:
    """Where it failed, from a step, or from the beginning; and says so once."""
    shop = Replayed()
    async with shop.app.testing(raise_errors=False) as t:
        await shop.order.later()
        await t.run_until_idle()
        first = ["one", "two", "three"]
        await shop.app.dead_letters().replay(EVERYTHING, **how)
        await t.run_until_idle()
        assert shop.done == first + again
        shop.broken = False
        await shop.app.dead_letters().replay(EVERYTHING)
        await t.run_until_idle()
        assert shop.done == first + again
        assert t.results(shop.order) == ["well"]


async def test_only_durable_jobs_are_replayed_from_a_step() -> None:
    """Nothing is sent otherwise."""
    shop = Replayed()
    async with shop.app.testing(raise_errors=False) as t:
        await shop.order.later()
        await shop.plain.later()
        await t.run_until_idle()
        letters = shop.app.dead_letters()
        for how in ({"from_step": "two"}, {"restart": True}):
            with pytest.raises(ConfigurationError, match="'plain' is not a durable job"):
                await letters.replay(EVERYTHING, **how)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="not both"):
            await letters.replay(EVERYTHING, from_step="two", restart=True)
        assert len(t.dead()) == 2
