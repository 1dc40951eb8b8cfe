"""What the doctor says of durable jobs."""

from amqpjobs import App, Context, Reject
from amqpjobs.state.examination.durable import examine_durable
from amqpjobs.state.memory import memory_of


async def test_jobs_that_could_not_be_undone_are_named() -> None:
    """With what to do; others are counted."""
    app = App("shop")

    async def nothing() -> None: ...

    @app.job(queue="orders")
    async def back() -> None:
        raise Reject("cannot be taken back")

    @app.job(queue="orders", durable=True)
    async def order(ctx: Context, *, well: bool) -> None:
        await ctx.step("one", nothing, undo=back)
        if not well:
            raise Reject("out of stock")
        await ctx.signal("never", None)

    async with app.testing(raise_errors=False) as t:
        memory = memory_of(app.client)
        await order.later(well=True)
        await t.run_until_idle()
        assert await examine_durable(memory) == [("durable", "ok", "0 running, 1 waiting", "")]
        broken = await order.later(well=False)
        await t.run_until_idle()
        [found] = await examine_durable(memory)
        assert (found.state, found.text) == ("error", f"1 could not be undone: {broken.id}")
        assert "amqpjobs undo JOB_ID" in found.fix
