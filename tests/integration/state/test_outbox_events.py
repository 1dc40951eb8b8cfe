"""Events of a transaction: published after its commit, or never."""

import pytest

from amqpjobs import Context, Exchange
from amqpjobs.errors import ConfigurationError
from tests.integration.state.test_outbox import shop

ORDERS = Exchange("orders")


async def test_an_event_is_published_after_the_commit(store_url: str) -> None:
    """With the id that the caller knew before; one that is rolled back never was, and one that no
    queue is bound for is no error."""
    async with shop(store_url) as here:
        app, seen = here.app, []

        @app.on(ORDERS, "order.*", queue="invoicing")
        async def invoice(ctx: Context, article: str) -> None:
            assert ctx.event is not None
            seen.append((ctx.event.id, ctx.event.routing_key, article))

        async with app.testing() as t:
            with pytest.raises(ZeroDivisionError):
                async with here.sessions.begin() as session:
                    await app.publish(ORDERS, "order.placed", "gone", within=session)
                    raise ZeroDivisionError
            async with here.sessions.begin() as session:
                session.add(here.orders(article="tea"))
                first = await app.publish(ORDERS, "order.placed", "tea", within=session)
                second = await app.within(session).publish(ORDERS, "order.paid", "tea")
                await app.within(session).publish(ORDERS, "nobody", "tea")
                assert not seen
                with pytest.raises(ConfigurationError, match="leave mandatory=True out"):
                    await app.publish(ORDERS, "x", 1, within=session, mandatory=True)
                with pytest.raises(ConfigurationError, match="has no option 'prioritty'; it has"):
                    await app.within(session).publish(ORDERS, "x", 1, prioritty=1)
            await t.run_until_idle()
            assert await here.count(here.outbox.table) == 0
            assert [each.routing_key for each in t.published(ORDERS)] == [
                "order.placed", "order.paid", "nobody",
            ]  # fmt: skip
            assert t.enqueued() == []
    assert seen == [(first, "order.placed", "tea"), (second, "order.paid", "tea")]


async def test_a_job_with_a_transaction_publishes_by_it(store_url: str) -> None:
    """As it enqueues: together with what it writes."""
    async with shop(store_url) as here:
        app, seen = here.app, []

        @app.job(queue="work", once=here.sessions)
        async def charge(session: object, fails: bool) -> None:
            await app.publish(ORDERS, "charged", fails)
            if fails:
                raise OSError("no")

        @app.on(ORDERS, "charged", queue="invoicing")
        async def invoice(fails: bool) -> None:
            seen.append(fails)

        async with app.testing(raise_errors=False) as t:
            await charge.later(True)
            await charge.later(False)
            await t.run_until_idle()
    assert seen == [False]
