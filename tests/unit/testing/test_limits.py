"""``limit=`` in the test kit: the same code, on SQLite."""

import asyncio
import sqlite3
from contextlib import closing
from typing import Annotated, Any

import pytest

from amqpjobs import App, Context, Limit, Retry, Snooze
from amqpjobs.errors import JobFailed
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.settings import Settings
from amqpjobs.worker.settlement import Settlement


@pytest.fixture
def app() -> App:
    return App("shop", settings=Settings(url="amqp://nowhere.invalid"), retry=Retry(3, jitter=0))


class Overlaps:
    """How many run at once for each key."""

    def __init__(self) -> None:
        self.now: dict[int, int] = {}
        self.most: dict[int, int] = {}
        self.done: list[int] = []

    async def run(self, key: int, n: int) -> None:
        self.now[key] = self.now.get(key, 0) + 1
        self.most[key] = max(self.most.get(key, 0), self.now[key])
        await asyncio.sleep(0.005)
        self.now[key] -= 1
        self.done.append(n)


async def test_a_limit_of_a_parameter_holds(app: App) -> None:
    """One for each customer; all are done in the end, and none is an attempt more."""
    seen = Overlaps()

    @app.job(queue="sync")
    async def sync(ctx: Context, customer: Annotated[int, Limit(1)], n: int) -> None:
        assert ctx.attempt == 1
        assert ctx.fence("customer") == ctx.fence() > 0
        await seen.run(customer, n)

    async with app.testing() as t:
        for n in range(20):
            await sync.later(n % 2, n)
        await t.run_until_idle()
        assert sorted(seen.done) == list(range(20))
        assert seen.most == {0: 1, 1: 1}
        assert {ran.outcome for ran in t.runs()} == {"done", "waiting"}
        assert len(t.enqueued(sync)) == 20, "one that has waited is no other job"


async def test_a_limit_of_the_job_and_of_a_group(app: App) -> None:
    """Jobs of one group count together."""
    seen = Overlaps()

    @app.job(queue="ship", limit=Limit(2, group="carrier"))
    async def ship(n: int) -> None:
        await seen.run(0, n)

    @app.job(queue="track", limit=Limit(2, group="carrier"))
    async def track(n: int) -> None:
        await seen.run(0, n)

    async with app.testing() as t:
        for n in range(10):
            await (ship if n % 2 else track).later(n)
        await t.run_until_idle()
        assert sorted(seen.done) == list(range(10))
        assert seen.most == {0: 2}


async def test_slots_are_given_back_over_a_retry_and_a_snooze(app: App) -> None:
    """Others run meanwhile."""
    order: list[str] = []

    @app.job(queue="sync", limit=Limit(1))
    async def sync(ctx: Context, name: str) -> None:
        order.append(f"{name}{ctx.attempt}")
        if order.count(f"{name}{ctx.attempt}") == 1 and name == "a":
            if ctx.attempt == 1:
                raise OSError("again")
            raise Snooze(5)

    async with app.testing() as t:
        await sync.later("a")
        await sync.later("b")
        await t.run_until_idle()
        assert order == ["a1", "b1"]
        await t.advance(3600)
        assert order == ["a1", "b1", "a2", "a2"]


async def test_skip_answers_its_caller(app: App) -> None:
    """With an error; without a caller it is acked."""
    going, go_on = asyncio.Event(), asyncio.Event()

    @app.job(queue="sync", limit=Limit(1, when_busy="skip"))
    async def sync(n: int) -> int:
        going.set()
        await go_on.wait()
        return n

    async with app.testing() as t:
        first = asyncio.create_task(sync.request(1))
        await going.wait()
        with pytest.raises(JobFailed, match="sync is busy") as failed:
            await sync.request(2)
        assert failed.value.error == "skipped"
        handle = await sync.later(3)
        go_on.set()
        assert await first == 1
        await t.run_until_idle()
        status = await handle.status()
        assert status is not None
        assert status.state in ("skipped", "done")
        assert "skipped" in {ran.outcome for ran in t.runs()}
        assert not t.dead()


async def test_a_request_that_waits_is_answered(app: App) -> None:
    """Its address waits with it."""

    @app.job(queue="sync", limit=Limit(1))
    async def sync(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    async with app.testing():
        assert await asyncio.gather(*(sync.request(n) for n in range(5))) == [0, 1, 2, 3, 4]


async def test_replace_cancels_what_runs(app: App) -> None:
    """The new one runs when the old one is over."""
    going = asyncio.Event()
    done: list[int] = []

    @app.job(queue="sync", limit=Limit(1, when_busy="replace"), cancellable=True)
    async def sync(n: int) -> None:
        going.set()
        if n == 1:
            await asyncio.sleep(30)
        done.append(n)

    async with app.testing() as t:
        first = await sync.later(1)
        idle = asyncio.create_task(t.run_until_idle())
        await going.wait()
        await sync.later(2)
        await idle
        assert done == [2]
        status = await first.status()
        assert status is not None
        assert status.state == "cancelled"


async def test_what_waits_beyond_its_deadline_expires(app: App) -> None:
    """It is told as any job that expires."""

    @app.job(queue="sync", limit=Limit(1))
    async def sync(ctx: Context, n: int) -> None:
        if n == 1 and ctx.attempt == 1:
            await asyncio.sleep(0.05)

    async with app.testing() as t:
        await sync.later(1)
        late = await sync.with_options(expires=10).later(2)
        await t.run_until_idle()
        assert [ran.outcome for ran in t.runs(sync)] == ["waiting", "done", "done"]
        status = await late.status()
        assert status is not None
        assert status.state == "done"


def test_a_fence_that_is_not_there_is_named() -> None:
    """With the nearest that is."""
    assert did_you_mean("costumer", ["customer"]) == "; did you mean 'customer'?"


async def test_the_slots_are_free_before_the_job_is_acked(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that dies between the two leaves no slot behind. A retry and a failure do so too."""
    held: list[tuple[str, int]] = []
    settle = Settlement.settle

    def looking(self: Settlement, delivery: Any, outcome: Any, *args: Any, **more: Any) -> Any:
        store = app.settings.store_url.get_secret_value().removeprefix("sqlite:///")
        with closing(sqlite3.connect(store)) as connection:
            query = "SELECT count(*) FROM amqpjobs_slot WHERE holder <> ''"
            held.append((outcome.word, connection.execute(query).fetchone()[0]))
        return settle(self, delivery, outcome, *args, **more)

    monkeypatch.setattr(Settlement, "settle", looking)

    @app.job(queue="sync", limit=Limit(1))
    async def sync(ctx: Context, fails: bool) -> None:
        if fails:
            raise OSError(f"attempt {ctx.attempt}")

    async with app.testing(raise_errors=False) as t:
        await sync.later(False)
        await t.run_until_idle()
        await sync.later(True)
        await t.advance(600)
    assert held == [("done", 0), ("retried", 0), ("retried", 0), ("failed", 0)]
