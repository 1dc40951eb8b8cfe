"""Durable jobs and messages that other programs, or mistakes, have made."""

import logging
from collections.abc import Awaitable
from typing import Any

import pytest

from amqpjobs import App, Context, Job, Retry
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.support.amqp import publish, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

PARENT: dict[str, Any] = {"id": "nobody", "epoch": 0, "step": "a", "part": "call", "n": 0}


def make_app(app: App, seen: list[Any]) -> Job[[], None, Awaitable[None]]:
    """A job that a durable job calls, and that one."""

    @app.job(queue="children")
    async def double(n: int) -> int:
        seen.append(n)
        return n * 2

    @app.job(queue="parents", durable=True)
    async def parent(ctx: Context) -> None:
        seen.append(await ctx.call("a", double, 1))

    return parent


@pytest.mark.parametrize(
    "parent",
    [
        PARENT, {**PARENT, "part": "undo"}, {**PARENT, "id": "a\0b"}, {**PARENT, "step": "a\0b"},
        {**PARENT, "epoch": 2**40}, {**PARENT, "n": 2**40}, {**PARENT, "epoch": -1}, {}, "x", 7,
    ],
)  # fmt: skip
async def test_a_job_of_a_parent_that_there_is_not_runs_as_any_other(
    store_url: str, broker_43: VirtualHost, parent: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the header says; the database is not asked for what it cannot have."""
    seen: list[Any] = []
    app = app_at(broker_43.url, store_url=store_url)
    make_app(app, seen)
    outcomes: list[str] = []
    engine = open_engine(app.client.runtime.settings)
    await migrate(engine)
    await engine.dispose()
    with caplog.at_level(logging.WARNING):
        async with (
            app.lifespan(),
            working(app, observers=[lambda _, outcome: outcomes.append(outcome.word)]),
            stranger(broker_43.url) as channel,
        ):
            headers = {"amqpjobs-parent": parent}
            await publish(channel, "children", b"3", type="double", headers=headers)
            await until(lambda: outcomes, "it has ended")
    logged = [each.message for each in caplog.records if each.name.startswith("amqpjobs")]
    assert (seen, outcomes, logged) == ([3], ["done"], [])


async def test_who_is_not_the_child_does_not_end_the_step() -> None:
    """A message with the header of a child, and another id."""
    seen: list[Any] = []
    app = App("shop", retry=Retry(attempts=1))
    parent = make_app(app, seen)
    async with app.testing() as t:
        handle = await parent.later()
        async with stranger(t.url) as channel:
            headers = {"amqpjobs-parent": {**PARENT, "id": handle.id}}
            await publish(channel, "children", b"50", type="double", headers=headers)
        await t.run_until_idle()
    assert sorted(seen) == [1, 2, 50]


async def test_two_messages_with_one_id_are_one_job() -> None:
    """Its steps are done once; and not anew by one that comes after its end."""
    seen: list[Any] = []
    app = App("shop", retry=Retry(attempts=1))
    parent = make_app(app, seen)
    async with app.testing() as t:
        for _ in range(2):
            await parent.with_options(id="x").later()
        await t.run_until_idle()
        await parent.with_options(id="x").later()
        await t.run_until_idle()
    assert seen == [1, 2]


async def test_the_id_of_another_durable_job_is_refused() -> None:
    """It would count as done, with the result of that one; and does that one no harm."""
    seen: list[Any] = []
    app = App("shop", retry=Retry(attempts=1))
    parent = make_app(app, seen)

    @app.job(queue="others", durable=True)
    async def other(ctx: Context) -> None:
        await ctx.sleep("a while", 60)
        seen.append("other")

    async with app.testing(raise_errors=False) as t:
        await other.with_options(id="x").later()
        await t.run_until_idle()
        await parent.with_options(id="x").later()
        await t.run_until_idle()
        (dead,) = t.dead()
        assert "'x' is that of a durable job 'other'" in dead.message
        await t.advance(61)
    assert seen == ["other"]
