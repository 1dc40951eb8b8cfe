"""The deadline of a durable job counts for the whole of it, however long it waits."""

from datetime import timedelta
from typing import Any

import pytest

from amqpjobs import App, Context, Retry
from amqpjobs.state.durable.rows import rows_of
from amqpjobs.state.durable.values import UNDONE
from amqpjobs.state.memory import memory_of


def an_app() -> tuple[App, Any, list[Any]]:
    """A durable job that does something, and waits for a time or for another job."""
    app, done = App("shop", retry=Retry(attempts=1)), list[Any]()

    @app.job(queue="payments")
    async def charge(ctx: Context, order: int) -> int:
        done.append(ctx.deadline)
        return order

    @app.job(queue="payments")
    async def refund(order: int) -> None:
        done.append(f"refund {order}")

    @app.job(queue="parcels")
    async def ship(order: int) -> None:
        done.append("ship")

    @app.job(queue="orders", name="fulfil", durable=True)
    async def fulfil(ctx: Context, order: int) -> None:
        await ctx.call("charge", charge, order, undo=refund)
        if order == 1:
            await ctx.sleep("rest", timedelta(days=2))
        await ctx.call("ship", ship.with_options(delay=timedelta(hours=30)).message(order))

    return app, fulfil, done


@pytest.mark.parametrize("order", [1, 2])
async def test_a_job_whose_time_is_over_while_it_waits_is_undone(order: int) -> None:
    """It waits for a time, or for another job, which has the same deadline and does not begin."""
    app, fulfil, done = an_app()
    async with app.testing(raise_errors=False) as t:
        begun = t.now
        handle = await fulfil.with_options(expires=timedelta(days=1)).later(order)
        await t.advance(timedelta(hours=23))
        assert done == [pytest.approx(begun + 86_400, abs=0.1)]
        assert [run.outcome for run in t.runs() if run.job == "fulfil"] == ["suspended"] * 2
        await t.advance(timedelta(hours=1, minutes=1))
        assert done[1:] == [f"refund {order}"]
        assert [run.outcome for run in t.runs() if run.job == "fulfil"][2:] == ["expired"]
        await t.advance(timedelta(days=2))
        assert done[1:] == [f"refund {order}"]
        store = await memory_of(app.client).store()
        row, _ = await store.run(rows_of, "shop", handle.id)
        assert row.state == UNDONE
