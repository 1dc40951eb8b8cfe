"""``once=``: the effect of a job, what it sends, and that it was done are one transaction."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from amqpjobs import App, Context, Reject, Retry, Selection, Snooze
from amqpjobs.errors import ConfigurationError, JobFailed
from amqpjobs.state.duties import PrunesInbox
from amqpjobs.state.memory import memory_of
from tests.support.shop import Shop, blocking_sessions, shop

TWICE = Retry(attempts=2, first=1.0)


def receipts(app: App) -> Any:
    @app.job(queue="receipts")
    async def receipt(article: str) -> None: ...

    return receipt


def charging(here: Shop, **options: Any) -> Any:
    """A job with an effect, that sends another one."""
    receipt = receipts(here.app)

    @here.app.job(queue="orders", once=here.sessions, **options)
    async def charge(ctx: Context, session: AsyncSession, article: str) -> str:
        session.add(here.orders(article=article))
        await receipt.later(article)
        return f"{article} {ctx.attempt}"

    return charge


def sent(t: Any) -> list[str]:
    return [each.arguments["article"] for each in t.enqueued() if each.job == "receipt"]


async def test_a_duplicate_has_no_effect_and_the_same_answer(store_url: str) -> None:
    """The second one does not run; its caller gets what the first one returned."""
    async with shop(store_url) as here:
        charge = charging(here)
        async with here.app.testing() as t:
            for _ in range(2):
                assert await charge.with_options(id="order-1").request("tea") == "tea 1"
            await charge.with_options(id="order-1").later("tea")
            await t.run_until_idle()
            assert await here.count() == 1
            assert sent(t) == ["tea"]
            assert [each.outcome for each in t.runs(charge)] == ["done"] * 3
            await charge.with_options(id="order-2").later("tea")
            await t.run_until_idle()
            assert await here.count() == 2


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_plain_def_has_a_session_in_its_thread(store_url: str) -> None:
    """As an async def."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        sessions = blocking_sessions(here)

        @here.app.job(queue="orders", once=sessions)
        def charge(session: Session, article: str) -> str:
            session.add(here.orders(article=article))
            receipt.within(session).later(article)
            return article.upper()

        async with here.app.testing() as t:
            for _ in range(2):
                assert await charge.with_options(id="order-1").request("tea") == "TEA"
            await t.run_until_idle()
            assert await here.count() == 1
            assert sent(t) == ["tea"]
        sessions.kw["bind"].dispose()


async def test_a_failure_keeps_nothing_and_is_retried(store_url: str) -> None:
    """The row of the inbox goes with the effect."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)

        @here.app.job(queue="orders", once=here.sessions, retry=TWICE)
        async def charge(ctx: Context, session: AsyncSession, article: str) -> None:
            session.add(here.orders(article=article))
            await session.flush()
            await receipt.later(article)
            if ctx.attempt == 1:
                raise OSError("the bank is away")

        async with here.app.testing() as t:
            await charge.later("tea")
            await t.run_until_idle()
            assert (await here.count(), await here.count(here.outbox.inbox)) == (0, 0)
            await t.advance(60)
            assert (await here.count(), await here.count(here.outbox.inbox)) == (1, 1)
            assert sent(t) == ["tea"]
            assert [each.outcome for each in t.runs(charge)] == ["retried", "done"]


@pytest.mark.parametrize("returned", [True, False])
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_verdict_keeps_nothing(store_url: str, returned: bool) -> None:
    """Raised or returned: the job has not been done."""
    async with shop(store_url) as here:

        @here.app.job(queue="orders", once=here.sessions)
        async def charge(ctx: Context, session: AsyncSession, verdict: str) -> object:
            session.add(here.orders(article=verdict))
            said = Snooze(5) if verdict == "snooze" else Reject("no")
            if returned:
                return said
            raise said

        async with here.app.testing(raise_errors=False) as t:
            await charge.later("snooze")
            await t.run_until_idle()
            await charge.later("reject")
            await t.run_until_idle()
            assert [each.outcome for each in t.runs(charge)] == ["snoozed", "rejected"]
            assert (await here.count(), await here.count(here.outbox.inbox)) == (0, 0)


async def test_a_replay_runs_again(store_url: str) -> None:
    """With the same id, in the next epoch."""
    async with shop(store_url) as here:
        broken = True

        @here.app.job(queue="orders", once=here.sessions, retry=Retry(attempts=1))
        async def charge(session: AsyncSession, article: str) -> None:
            session.add(here.orders(article=article))
            if broken:
                raise ValueError("a bug")

        async with here.app.testing(raise_errors=False) as t:
            await charge.later("tea")
            await t.run_until_idle()
            assert len(t.dead()) == 1
            broken = False
            await here.app.dead_letters("orders").replay(Selection(job="charge"))
            await t.run_until_idle()
            assert (await here.count(), await here.count(here.outbox.inbox)) == (1, 1)


async def test_two_duplicates_at_once_are_done_once(store_url: str) -> None:
    """The second one waits for the first one's transaction."""
    async with shop(store_url) as here:
        started, runs = asyncio.Event(), 0

        @here.app.job(queue="orders", once=here.sessions)
        async def charge(session: AsyncSession, article: str) -> None:
            nonlocal runs
            runs += 1
            started.set()
            await asyncio.sleep(0.2)  # both are under way meanwhile
            session.add(here.orders(article=article))

        async with here.app.testing() as t:
            for _ in range(3):
                await charge.with_options(id="order-1").later("tea")
            await t.run_until_idle()
            assert (runs, await here.count()) == (1, 1)
            assert [each.outcome for each in t.runs(charge)] == ["done"] * 3


@pytest.mark.parametrize("store_url", ["postgres"], indirect=True)
async def test_what_is_in_the_way_of_others_runs_again_and_uses_no_attempt(store_url: str) -> None:
    """Serializable transactions that read and write the same row."""
    async with shop(store_url) as here:
        sessions = here.sessions
        serializable = here.engine.execution_options(isolation_level="SERIALIZABLE")
        sessions.configure(bind=serializable)
        attempts: list[int] = []

        @here.app.job(queue="orders", once=sessions, retry=Retry(attempts=1))
        async def add(ctx: Context, session: AsyncSession, n: int) -> None:
            attempts.append(ctx.attempt)
            article = await session.scalar(select(here.orders.article).where(here.orders.id == 1))
            await asyncio.sleep(0.02)
            total = int(article or 0) + n
            await session.execute(update(here.orders).values(article=str(total)))

        async with sessions.begin() as session:
            session.add(here.orders(id=1, article="0"))
        async with here.app.testing() as t:
            for _ in range(6):
                await add.later(1)
            for _ in range(20):
                await t.advance(5)
            assert {each.outcome for each in t.runs(add)} <= {"done", "snoozed"}
            assert set(attempts) == {1}
            assert len(attempts) > 6
            async with sessions() as session:
                assert await session.scalar(select(here.orders.article)) == "6"


async def test_a_constraint_that_fails_at_the_end_is_a_failure_of_the_job(store_url: str) -> None:
    """And not a database that is away."""
    async with shop(store_url) as here:

        @here.app.job(queue="orders", once=here.sessions, retry=Retry(attempts=1))
        async def charge(session: AsyncSession, article: str) -> None:
            session.add(here.orders(id=1, article=article))

        async with here.app.testing(raise_errors=False) as t:
            await charge.later("tea")
            await charge.later("milk")
            await t.run_until_idle()
            assert sorted(each.outcome for each in t.runs(charge)) == ["done", "failed"]
            assert await here.count() == 1


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_handler_that_commits_is_told_so(store_url: str) -> None:
    """Half of it would be kept, and a retry would take it for done. A savepoint is its own."""
    async with shop(store_url) as here:

        @here.app.job(queue="orders", once=here.sessions, retry=Retry(attempts=1))
        async def charge(session: AsyncSession, article: str, end: str) -> None:
            async with session.begin_nested():
                session.add(here.orders(article=article))
            if end:
                await getattr(session, end)()

        async with here.app.testing(raise_errors=False):
            for end in ("commit", "rollback"):
                with pytest.raises(JobFailed, match="begin_nested"):
                    await charge.request("tea", end)
            assert (await here.count(), await here.count(here.outbox.inbox)) == (0, 0)
            await charge.request("tea", "")
            assert (await here.count(), await here.count(here.outbox.inbox)) == (1, 1)


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_request_inside_is_refused(store_url: str) -> None:
    """It would wait for what is sent after the commit."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)

        @here.app.job(queue="orders", once=here.sessions, retry=Retry(attempts=1))
        async def charge(session: AsyncSession, article: str) -> None:
            await receipt.request(article)

        async with here.app.testing(raise_errors=False):
            with pytest.raises(JobFailed, match="would wait for what is sent after it"):
                await charge.request("tea")


async def test_a_worker_does_not_start_without_the_tables(store_url: str) -> None:
    """It says what to do."""
    async with shop(store_url) as here:
        charge = charging(here)
        async with here.engine.begin() as connection:
            await connection.run_sync(here.outbox.inbox.drop)
        with pytest.raises(ConfigurationError, match="amqpjobs_inbox"):
            async with here.app.testing() as t:
                await charge.later("tea")
                await t.run_until_idle()


async def test_a_table_that_vanishes_makes_jobs_wait(store_url: str) -> None:
    """No attempt is used, and nothing is acked without its row."""
    async with shop(store_url) as here:
        charge = charging(here)
        async with here.app.testing() as t:
            await charge.later("tea")
            await t.run_until_idle()
            async with here.engine.begin() as connection:
                await connection.run_sync(here.outbox.inbox.drop)
            await charge.later("milk")
            # Of the housekeeping, which has to wait as well.
            with pytest.raises(ConfigurationError, match="has no table amqpjobs_inbox"):
                await t.run_until_idle()
            assert [each.outcome for each in t.runs(charge)] == ["done", "snoozed"]
            async with here.engine.begin() as connection:
                await connection.run_sync(here.outbox.inbox.create)
            await t.advance(60)
            assert [each.outcome for each in t.runs(charge)] == ["done", "snoozed", "done"]
            assert {each.attempt for each in t.runs(charge)} == {1}


async def test_a_plain_call_is_a_transaction(store_url: str) -> None:
    """With a session of its own; what it sends goes with it."""
    async with shop(store_url) as here:
        charge = charging(here)
        async with here.app.testing() as t:
            assert await charge("tea") == "tea 1"
            assert sent(t) == []
            await t.run_until_idle()
            assert (sent(t), await here.count()) == (["tea"], 1)


async def test_a_plain_call_in_another_job_is_a_transaction_of_its_own(store_url: str) -> None:
    """As often as it is called: only the job itself is done once."""
    async with shop(store_url) as here:
        charge = charging(here)

        @here.app.job(queue="orders")
        async def day(articles: list[str]) -> list[str]:
            return [await charge(article) for article in articles]

        async with here.app.testing() as t:
            assert await day.request(["tea", "milk"]) == ["tea 1", "milk 1"]
            await t.run_until_idle()
            assert (sent(t), await here.count()) == (["tea", "milk"], 2)
            assert await here.count(here.outbox.inbox) == 0


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
async def test_a_task_that_a_handler_leaves_behind_sends_by_itself(store_url: str) -> None:
    """Nobody would commit what it stores."""
    async with shop(store_url) as here:
        receipt = receipts(here.app)
        left: list[asyncio.Task[Any]] = []
        ended = asyncio.Event()

        @here.app.job(queue="orders", once=here.sessions)
        async def charge(session: AsyncSession, article: str) -> None:
            async def afterwards() -> None:
                await ended.wait()
                await receipt.later(article)

            left.append(asyncio.create_task(afterwards()))

        async with here.app.testing() as t:
            await charge.later("tea")
            await t.run_until_idle()
            ended.set()
            await left[0]
            assert sent(t) == ["tea"]


async def test_old_rows_are_forgotten(store_url: str) -> None:
    """After the time of AMQPJOBS_INBOX_TTL, and not before."""
    async with shop(store_url) as here:
        charge = charging(here)
        async with here.app.testing() as t:
            await charge.later("tea")
            await charge.later("milk")
            await t.run_until_idle()
            async with here.engine.begin() as connection:
                await connection.execute(
                    text("UPDATE amqpjobs_inbox SET done_at = done_at - 8 * 86400")
                )
            await charge.later("bread")
            await t.run_until_idle()
            assert not await PrunesInbox(memory_of(here.app.client)).turn()
            assert await here.count(here.outbox.inbox) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cpu": True}, "cpu=True runs elsewhere"),
        ({"at_most_once": True}, "leave at_most_once out"),
    ],
)
def test_what_cannot_be_kept_is_refused(options: dict[str, Any], words: str) -> None:
    """Where it is declared."""
    app = App("shop")
    with pytest.raises(ConfigurationError, match=words):

        @app.job(queue="orders", once=lambda: None, **options)
        def charge(session: Session, article: str) -> None: ...


def test_a_session_comes_first() -> None:
    """After the Context."""
    app = App("shop")

    with pytest.raises(ConfigurationError, match="takes the session first"):

        @app.job(queue="orders", once=lambda: None)
        async def charge() -> None: ...
