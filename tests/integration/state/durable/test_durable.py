"""Durable jobs, in the kit: steps are remembered, calls are jobs, waiting holds nothing."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import async_sessionmaker

from amqpjobs import App, Context, Job, Retry
from amqpjobs.errors import ConfigurationError
from amqpjobs.state.durable import run as run_module
from tests.support.shop import async_engine


class Receipt(BaseModel):
    order: int
    payment: str
    sent: str


def make_app() -> tuple[App, Job[[int], Receipt, Awaitable[Receipt]], list[str]]:
    """An app whose durable job calls others, and what it did."""
    app, done = App("shop", retry=Retry(attempts=1)), list[str]()

    @app.job(queue="payments")
    async def charge(order: int, rate: float) -> str:
        done.append("charge")
        return f"{order} at {rate}"

    @app.job(queue="payments")
    async def refund(payment: str) -> None:
        done.append(f"refund {payment}")

    @app.job(queue="parcels")
    async def ship(order: int) -> str:
        done.append("ship")
        if order == 13:
            raise ValueError("none left")
        return "sent"

    async def rate_of(currency: str) -> float:
        done.append("rate")
        return 1.5

    @app.job(queue="orders", name="fulfil", durable=True, keep_result=True)
    async def fulfil(ctx: Context, order: int) -> Receipt:
        rate = await ctx.step("rate", rate_of, "EUR")
        payment = await ctx.call("charge", charge, order, rate, undo=refund)
        sent, _ = await asyncio.gather(
            ctx.call("ship", ship, order), ctx.sleep("rest", timedelta(hours=3))
        )
        return Receipt(order=order, payment=payment, sent=sent)

    return app, fulfil, done


async def test_each_step_is_done_once_and_its_result_comes_back_typed():
    """The handler begins anew each time that it is woken."""
    app, fulfil, done = make_app()
    async with app.testing() as t:
        handle = await fulfil.later(7)
        await t.run_until_idle()
        assert done == ["rate", "charge", "ship"]
        assert [run.outcome for run in t.runs() if run.job == "fulfil"] == ["suspended"] * 2
        await t.advance(3 * 3600 + 1)
        await t.run_until_idle()
        assert done == ["rate", "charge", "ship"]
        assert await handle.result() == Receipt(order=7, payment="7 at 1.5", sent="sent")


async def test_a_job_that_fails_for_good_is_undone():
    """By a job of its own, which is given the result of the call."""
    app, fulfil, done = make_app()
    async with app.testing(raise_errors=False) as t:
        await fulfil.later(13)
        await t.run_until_idle()
        await t.advance(3 * 3600 + 1)
        await t.run_until_idle()
        assert done == ["rate", "charge", "ship", "refund 13 at 1.5"]
        assert sorted(dead.job for dead in t.dead()) == ["fulfil", "ship"]


async def test_what_fails_in_every_run_is_not_tried_again():
    """Calls that have failed in a task group, which raises them as one; and a signal that does not
    fit."""
    app = App("shop", retry=Retry(attempts=3))

    @app.job(queue="parcels", retry=Retry(attempts=1))
    async def ship(parcel: int) -> str:
        raise ValueError("none left")

    @app.job(queue="orders", durable=True)
    async def ship_both(ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            for parcel in (1, 2):
                group.create_task(ctx.call(f"ship {parcel}", ship, parcel))

    @app.job(queue="orders", durable=True)
    async def approved(ctx: Context) -> bool:
        return await ctx.signal("approval", bool)

    async with app.testing(raise_errors=False) as t:
        await ship_both.later()
        handle = await approved.later()
        await t.run_until_idle()
        assert await handle.signal("approval", "perhaps")
        await t.run_until_idle()
        await t.advance(600)
        for job in (ship_both, approved):
            assert [run.outcome for run in t.runs(job)] == ["suspended", "failed"]


@pytest.mark.parametrize(("as_step", "begun"), [(True, 1), (False, 2)])
async def test_a_step_beside_a_wait_may_take_any_time(
    monkeypatch: pytest.MonkeyPatch, as_step: bool, begun: int
) -> None:
    """If it were left it would run twice. What is no step is left, and begins anew."""
    monkeypatch.setattr(run_module, "LONGEST_LIVE", 0.1)
    app, calls, released = App("shop"), list[str](), asyncio.Event()

    async def slow() -> str:
        calls.append("slow")
        if len(calls) == 1:
            await asyncio.wait_for(released.wait(), 10)
        return "slow"

    @app.job(queue="orders", durable=True)
    async def waits(ctx: Context) -> list[object]:
        other = ctx.step("slow", slow) if as_step else slow()
        asyncio.get_running_loop().call_later(0.5, released.set)
        return list(await asyncio.gather(other, ctx.sleep("rest", 3600)))

    async with app.testing() as t:
        await waits.later()
        await t.run_until_idle()
        await t.advance(3601)
        assert t.results(waits) == [["slow", None]]
        assert len(calls) == begun


async def test_calls_that_fail_side_by_side_end_the_job_at_once():
    """It is not tried again, whichever of their errors is raised."""
    app = App("shop", retry=Retry(attempts=2, first=1))

    @app.job(queue="parts", retry=Retry(attempts=1))
    async def part(n: int) -> None:
        raise ValueError(f"part {n}")

    @app.job(queue="orders", durable=True)
    async def both(ctx: Context) -> None:
        await asyncio.gather(ctx.call("one", part, 1), ctx.call("two", part, 2))

    async with app.testing(raise_errors=False) as t:
        await both.later()
        await t.run_until_idle()
        await t.advance(60)
        assert [run.outcome for run in t.runs(both)].count("failed") == 1
        assert [dead.attempt for dead in t.dead() if dead.job == "both"] == [1]


async def test_no_step_waits_for_a_transaction_of_its_own_job() -> None:
    """It would wait until a time limit of the database, and all others of the process with it."""
    app = App("shop", retry=Retry(attempts=3))

    async def rate() -> float:
        return 1.5

    @app.job(queue="orders", durable=True)
    async def book(ctx: Context) -> str:
        engine = async_engine(str(app.settings.store_url.get_secret_value()))
        sessions = async_sessionmaker(engine)
        try:
            async with sessions.begin() as session, ctx.step_in(session, "book"):
                try:
                    await ctx.step("rate", rate)
                except ConfigurationError as error:
                    refused = str(error)
            return f"{refused}: {await ctx.step('rate', rate)}"
        finally:
            await engine.dispose()

    async with app.testing() as t:
        await book.later()
        await t.run_until_idle()
        [result] = t.results(book)
    assert "inside of ctx.step_in(session, 'book')" in result
    assert result.endswith(": 1.5")
