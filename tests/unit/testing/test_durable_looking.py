"""What is seen of a durable job: its steps, what it waits for, a timeline."""

from datetime import timedelta

from amqpjobs import App, Context, DurableStatus, Retry
from amqpjobs.cli.timeline import mermaid
from amqpjobs.jobs.durable.status import StepStatus


async def look(app: App, job_id: str) -> DurableStatus:
    """The status of a job that is there."""
    found = await app.durable_status(job_id)
    assert found is not None
    return found


async def test_the_steps_of_a_job_are_seen_with_what_it_waits_for() -> None:
    """In their order, with children and times; a long result is shortened."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="parcels", durable=True)
    async def ship(ctx: Context) -> None:
        await ctx.signal("fetched", None)

    @app.job(queue="orders")
    async def back(text: str) -> None: ...

    async def long() -> str:
        return "x" * 1000

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context) -> None:
        await ctx.step("long", long, undo=back)
        await ctx.sleep("rest", timedelta(hours=1))
        await ctx.call("ship", ship, timeout=timedelta(days=1))

    async with app.testing() as t:
        handle = await fulfil.later()
        assert await app.durable_status(handle.id) is None
        assert await t.steps(handle.id) == []
        begin = t.now
        await t.run_until_idle()
        first, second = await t.steps(handle.id)
        assert (first.name, first.kind, first.state, first.undo) == (
            "long",
            "step",
            "done",
            back.name,
        )
        assert first.result == f'"{"x" * 199}...'
        assert (second.name, second.state, second.awaited) == ("rest", "waiting", True)
        assert second.due_at is not None
        assert begin + 3600 <= second.due_at <= begin + 3601
        await t.advance(3601)
        status = await look(app, handle.id)
        assert (status.job, status.state, status.queue) == (fulfil.name, "suspended", "orders")
        [step] = status.waiting
        assert step.waits_for == f"the job {ship.name} {step.child_id} (ship)"
        child = await look(app, str(step.child_id))
        assert (child.parent_id, child.parent_step) == (handle.id, "ship")
        assert [each.waits_for for each in child.waiting] == ["the signal 'fetched'"]
        await app.signal(child.id, "fetched")
        await t.run_until_idle()
        done = await look(app, handle.id)
        assert (done.state, done.result, done.waiting) == ("done", "null", ())
        assert [each.waits_for for each in done.steps] == [""] * 3


async def test_a_failed_job_says_why() -> None:
    """With the step that has failed, and the job behind it."""
    app = App("shop", retry=Retry(attempts=1))

    @app.job(queue="parcels")
    async def ship() -> None:
        raise ValueError("none left")

    @app.job(queue="orders", durable=True)
    async def fulfil(ctx: Context) -> None:
        await ctx.call("ship", ship)

    async with app.testing(raise_errors=False) as t:
        handle = await fulfil.later()
        await t.run_until_idle()
        status = await look(app, handle.id)
        [step] = status.steps
        assert (status.state, step.state) == ("failed", "failed")
        assert step.error == f"ValueError: none left (job {step.child_id})"
        assert "none left" in str(status.error)


async def test_a_program_without_durable_jobs_sees_none() -> None:
    """And needs no store for it."""
    app = App("shop")

    @app.job(queue="orders")
    async def plain() -> None: ...

    async with app.testing():
        handle = await plain.later()
        assert await app.durable_status(handle.id) is None


def test_a_timeline_has_a_bar_for_each_step() -> None:
    """Those that wait go on until now; what has a meaning in Mermaid is left out of names."""
    steps = (
        StepStatus("page 1: a;b", "step", "done", started_at=1.0, ended_at=1.0),
        StepStatus("ship", "call", "failed", started_at=1.5, ended_at=3.25, child="ship"),
        StepStatus("rest", "sleep", "waiting", started_at=4.0),
    )
    found = DurableStatus("an-id", "fulfil", "suspended", 0, "orders", 1.0, 4.0, steps=steps)
    assert mermaid(found, now=9.0).splitlines() == [
        "gantt",
        "    title fulfil an-id (suspended)",
        "    dateFormat x",
        "    axisFormat %H:%M:%S",
        "    section fulfil",
        "    page 1 a b :done, 1000, 1001",
        "    ship (ship) :crit, 1500, 3250",
        "    rest :active, 4000, 9000",
    ]
