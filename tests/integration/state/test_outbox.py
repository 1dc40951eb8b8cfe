"""The outbox: what a transaction sends is stored with it, and sent after its commit, once."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import create_async_engine

from amqpjobs import App, Queue
from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.memory import memory_of
from amqpjobs.state.outbox import rows
from amqpjobs.state.outbox.places import Bound
from tests.support.shop import Shop, blocking_sessions, shop

MESSAGE = Prepared("1", "receipt", "receipts", Properties(message_id="1", type="receipt"), b"1")


def receipts(app: App) -> Any:
    """A job that notes what it was given."""

    @app.job(queue="receipts")
    async def receipt(article: str) -> str:
        return article

    return receipt


async def test_it_is_sent_after_the_commit(store_url: str) -> None:
    """With the id that the caller knew before."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        async with here.app.testing() as t:
            async with here.sessions.begin() as session:
                session.add(here.orders(article="tea"))
                handle = await receipt.within(session).later("tea")
                assert t.enqueued() == []
            assert [each.id for each in await t.outbox()] == [handle.id]
            await t.run_until_idle()
            assert [(each.id, each.arguments) for each in t.enqueued()] == [
                (handle.id, {"article": "tea"})
            ]
            assert t.results(receipt) == ["tea"]
            assert await here.count() == 1
            assert await here.count(here.outbox.table) == 0


async def test_what_is_rolled_back_was_never_sent(store_url: str) -> None:
    """A transaction, a savepoint in one that is kept, and one around a session that committed."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        async with here.app.testing() as t:
            with pytest.raises(ZeroDivisionError):
                async with here.sessions.begin() as session:
                    await receipt.within(session).later("rolled back")
                    raise ZeroDivisionError
            async with here.sessions.begin() as session:
                await receipt.within(session).later("kept")
                async with session.begin_nested() as savepoint:
                    await receipt.within(session).later("in a savepoint")
                    await savepoint.rollback()
                async with session.begin_nested():
                    await receipt.within(session).later("released")
            async with here.engine.connect() as connection:
                outer = await connection.begin()
                async with here.sessions(
                    bind=connection, join_transaction_mode="create_savepoint"
                ) as session:
                    await receipt.within(session).later("joined")
                    await session.commit()
                await outer.rollback()
            await t.run_until_idle()
            assert t.results(receipt) == ["kept", "released"]


async def test_a_connection_sends_too(store_url: str) -> None:
    """Without the ORM."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        async with here.app.testing() as t:
            async with here.engine.begin() as connection:
                messages = [receipt.message(article) for article in ("tea", "milk")]
                handles = await here.app.within(connection).later_many(messages)
            await t.run_until_idle()
            assert t.results(receipt) == ["tea", "milk"]
            assert [each.id for each in t.runs()] == [handle.id for handle in handles]


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_synchronous_sessions_send(store_url: str) -> None:
    """Without await, from whatever thread."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        sessions = blocking_sessions(here)

        def order(article: str) -> str:
            with sessions.begin() as session:
                session.add(here.orders(article=article))
                return receipt.within(session).later(article).id

        async with here.app.testing() as t:
            job_id = await asyncio.to_thread(order, "tea")
            await t.run_until_idle()
            assert [each.id for each in t.runs()] == [job_id]
        sessions.kw["bind"].dispose()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_an_engine_that_loses_savepoints_is_refused(store_url: str) -> None:
    """As SQLAlchemy makes it for SQLite; the error has the lines that set it up."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        engine = create_async_engine(here.engine.url)
        async with here.app.testing():
            with pytest.raises(ConfigurationError, match="BEGIN IMMEDIATE"):
                async with engine.begin() as connection:
                    await here.app.within(connection).enqueue(receipt.message("tea"))
        await engine.dispose()


async def test_autocommit_is_refused(store_url: str) -> None:
    """Nothing would be kept together."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        engine = here.engine.execution_options(isolation_level="AUTOCOMMIT")
        async with here.app.testing():
            with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
                async with engine.connect() as connection:
                    await here.app.within(connection).enqueue(receipt.message("tea"))


async def test_a_database_without_the_table_is_said_so(store_url: str) -> None:
    """And how to make it."""
    app = App("other")
    receipt = receipts(app)
    async with shop(store_url) as here:
        async with here.engine.begin() as connection:
            await connection.run_sync(here.outbox.table.drop)
        async with app.testing():
            with pytest.raises(ConfigurationError, match="amqpjobs migrate"):
                async with here.sessions.begin() as session:
                    await receipt.within(session).later("tea")


async def test_a_delay_holds_and_options_travel(store_url: str) -> None:
    """A delay is counted from when the job was stored."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        async with here.app.testing() as t:
            async with here.sessions.begin() as session:
                later = receipt.with_options(delay=60, tags=["vip"])
                await later.within(session).later("tea")
            await t.run_until_idle()
            assert t.runs() == []
            await t.advance(60)
            assert t.results(receipt) == ["tea"]
            [sent] = t.enqueued()
            assert sent.options.tags == ("vip",)


async def claimed(here: Shop, lease: str, most: int = 10) -> list[str]:
    place = Bound(here.engine)
    found = await place.run(rows.claim, here.outbox.table, "shop", place.now, lease, 60.0, most)
    return [row.message.body.decode() for row in found]


async def test_rows_are_one_relays_at_a_time(store_url: str) -> None:
    """The oldest first; what one has taken no other takes, until its lease has ended."""
    async with shop(store_url) as here:
        table, place = here.outbox.table, Bound(here.engine)
        for each in "abcd":
            message = Prepared("1", "receipt", "receipts", Properties(), each.encode())
            await place.run(rows.add, table, "shop", message, place.now)
        assert await claimed(here, "one", 2) == ["a", "b"]
        assert await claimed(here, "two") == ["c", "d"]
        assert await claimed(here, "three") == []
        async with here.engine.begin() as connection:
            ended = update(table).where(table.c.lease == "one").values(leased_until=1.0)
            await connection.execute(ended)
        assert await claimed(here, "three") == ["a", "b"]
        # One that comes late deletes nothing that is another's by now.
        ids = [id_ for (id_,) in await here_ids(here)]
        await place.run(rows.remove, table, "one", ids)
        assert await here.count(table) == 4
        await place.run(rows.remove, table, "three", ids)
        assert await here.count(table) == 2


async def here_ids(here: Shop) -> Any:
    async with here.engine.connect() as connection:
        return (await connection.execute(select(here.outbox.table.c.id))).all()


async def test_messages_of_a_key_keep_their_order(store_url: str) -> None:
    """None is sent before one of its key that is with another relay, or has failed."""
    async with shop(store_url) as here:
        table, place = here.outbox.table, Bound(here.engine)

        async def add(body: str, key: str | None) -> None:
            message = Prepared("1", "receipt", "receipts", Properties(), body.encode())
            await place.run(rows.add, table, "shop", message, place.now, key)

        for body, key in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("free", None)):
            await add(body, key)
        assert await claimed(here, "one", 1) == ["a1", "free"]
        assert await claimed(here, "two") == ["b1"], "a2 is behind a1"
        await place.run(rows.fail, table, "one", [(1, "no such queue")], place.now)
        assert await claimed(here, "three") == [], "a1 has failed, and a2 waits for it"
        assert await place.run(rows.again, table, "shop") == 1
        assert await claimed(here, "four") == ["a1", "a2"]


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_the_order_of_a_key_is_that_of_the_commits(store_url: str) -> None:
    """Two transactions that write the same key wait for each other; others do not."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        async with here.app.testing() as t:
            begun, go = asyncio.Event(), asyncio.Event()

            async def slow() -> None:
                async with here.sessions.begin() as session:
                    await receipt.within(session, key="account 7").later("first")
                    begun.set()
                    await go.wait()

            async def quick(article: str, key: str) -> None:
                async with here.sessions.begin() as session:
                    await receipt.within(session, key=key).later(article)

            first = asyncio.create_task(slow())
            await begun.wait()
            second = asyncio.create_task(quick("second", "account 7"))
            await quick("other", "account 8")
            assert not second.done()
            go.set()
            await asyncio.gather(first, second)
            await t.run_until_idle()
            found = t.results(receipt)
            assert found.index("first") < found.index("second")


async def test_what_no_queue_takes_is_kept_and_told(store_url: str) -> None:
    """With why; the others are sent."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        gone = Queue("gone")

        @here.app.job(queue=gone)
        async def lost(article: str) -> None: ...

        async with here.app.testing() as t:
            async with here.sessions.begin() as session:
                await lost.within(session).later("tea")
                await receipt.within(session).later("milk")
            publisher = await here.app.client.publisher()
            publisher.restoring._queues.discard("gone")
            host = t.broker.virtual_host
            host.drop(host.queues["gone"])
            memory = memory_of(here.app.client)
            assert await memory.send() == 2
            await t.run_until_idle()
            assert t.results(receipt) == ["milk"]
            place = await memory.place()
            held = await place.run(rows.held, here.outbox.table, "shop", place.now)
            assert (held.open, held.failed) == (0, 1)
            assert "gone" in (held.error or "")


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_commit_does_not_fail_because_nobody_can_be_woken(store_url: str) -> None:
    """As at the end of the interpreter, when no thread can be started any more."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)

        def broken() -> None:
            raise RuntimeError("can't start new thread")

        async with here.app.testing() as t:
            memory = memory_of(here.app.client)
            memory.add_wake(broken)
            async with here.sessions.begin() as session:
                await receipt.within(session).later("tea")
            memory.remove_wake(broken)
            await t.run_until_idle()
            assert t.results(receipt) == ["tea"]
