"""Schedules as rows, on SQLite and PostgreSQL, with a clock that the test sets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, select, update

from amqpjobs import App, Cron, Every
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE
from amqpjobs.jobs.message.headers import tick_of
from amqpjobs.jobs.schedule.missed import MOST
from amqpjobs.jobs.schedule.schedule import Missed, Schedule
from amqpjobs.jobs.schedule.status import TickRecord
from amqpjobs.settings import Settings
from amqpjobs.state.outbox.rows import message_of
from amqpjobs.state.schedules import at_will, firing, in_code, looking, rows, running
from amqpjobs.state.schedules.messages import template_for
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.tables import outbox, releases, schedules
from tests.support.shop import async_engine

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()


class Stood:
    """A clock that stands where the test sets it."""

    def __init__(self) -> None:
        self.now = NOON

    def time(self) -> float:
        """See `amqpjobs.jobs.clock.Clock`."""
        return self.now

    monotonic = time
    call_later = MACHINE.call_later


class Shop:
    """An app with a store."""

    def __init__(self, settings: Settings, store: DurableStore, clock: Stood) -> None:
        self.app = App("shop", settings=settings)
        self.store = store
        self.clock = clock

        @self.app.job(queue="reports")
        async def report(tenant: int) -> None: ...

        self.report = report
        self.jobs = [report.name]

    async def put(self, name: str, schedule: Schedule) -> None:
        """Put a schedule."""
        template = await template_for(self.app.client, self.report.message(7))
        await self.store.run(rows.put, "shop", name, schedule, template, self.store.now)

    async def fire(self, **kwargs: Any) -> firing.Fired:
        """One look."""
        now = self.store.now
        return await self.store.run(firing.fire_due, "shop", self.jobs, now, **kwargs)

    async def fire_all(self) -> None:
        """Looks until nothing is due."""
        while (await self.fire()).schedules:
            pass

    async def ticks(self) -> list[tuple[float, str, str]]:
        """Seconds after noon, how and outcome."""
        found: list[TickRecord] = await self.store.run(looking.ticks_of, "shop", None, None)
        return [(tick.due - NOON, tick.how, tick.outcome) for tick in found]

    async def sent(self) -> list[str]:
        """The ids in the outbox."""
        query = select(outbox.c.job_id).order_by(outbox.c.id)
        return await self.store.run(lambda connection: list(connection.scalars(query)))

    async def end(self, *names: str) -> None:
        """The last job of each schedule has ended."""
        held = await self.store.run(running.running, "shop", names, self.clock.now)
        ended = [(name, held[name][0]) for name in names]
        await self.store.run(firing.end, "shop", ended, self.store.now)


@asynccontextmanager
async def opened(settings: Settings, clock: Stood) -> AsyncIterator[DurableStore]:
    """Another process's store."""
    store = await DurableStore(settings, clock).open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def shop(settings: Settings) -> AsyncIterator[Shop]:
    """An app with an empty store of each kind."""
    from amqpjobs.state.store.engine import open_engine
    from amqpjobs.state.store.migrate import migrate

    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    clock = Stood()
    async with opened(settings, clock) as store:
        yield Shop(settings, store, clock)


async def test_one_job_for_each_time_whoever_looks(shop: Shop, settings: Settings) -> None:
    """Five processes look at the same moment, again and again."""
    for n in range(20):
        await shop.put(f"s{n}", Every(minutes=1, overlap="allow"))
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(opened(settings, shop.clock)) for _ in range(5)]

        async def look(store: DurableStore) -> int:
            fired = await store.run(firing.fire_due, "shop", shop.jobs, store.now)
            return fired.sent

        for _ in range(5):
            shop.clock.now += 60
            sent = await asyncio.gather(*(look(store) for store in stores for _ in range(2)))
            assert sum(sent) == 20
    sent_ids = await shop.sent()
    assert len(sent_ids) == len(set(sent_ids)) == 100
    assert len(await shop.ticks()) == 100


async def test_a_job_says_what_its_tick_is(shop: Shop) -> None:
    """In its headers; its id follows from the schedule and the time."""
    await shop.put("s", Cron("* * * * *", tz="Europe/Berlin"))
    shop.clock.now = NOON + 61
    await shop.fire()
    await shop.end("s")
    shop.clock.now = NOON + 121
    await shop.fire()
    query = select(outbox).order_by(outbox.c.id)
    first, second = await shop.store.run(
        lambda connection: [message_of(row) for row in connection.execute(query)]
    )
    tick = tick_of(second.properties.headers)
    assert tick is not None
    assert (tick.schedule, tick.due, tick.previous) == ("s", NOON + 120, NOON + 60)
    assert (tick.how, tick.tz) == ("cron", "Europe/Berlin")
    assert second.properties.message_id == second.job_id != first.job_id
    assert (second.body, second.properties.app_id, second.routing_key) == (b"7", "shop", "reports")
    copies = {message.properties.headers["amqpjobs-copy"] for message in (first, second)}
    assert len(copies) == 2


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("latest", [(3600.0, "missed", "sent")]),
        ("skip", [(3600.0, "missed", "skipped")]),
        ("all", [(900.0 * n, "missed", "sent") for n in (1, 2, 3, 4)]),
    ],
)
async def test_an_hour_of_downtime(
    shop: Shop, missed: Missed, expected: list[tuple[float, str, str]]
) -> None:
    """What was missed is made up for as the schedule says, once."""
    await shop.put("s", Every(minutes=15, missed=missed))
    shop.clock.now = NOON + 3700
    await shop.fire_all()
    await shop.fire_all()
    assert await shop.ticks() == expected
    status = (await shop.store.run(looking.statuses_of, "shop", shop.jobs, shop.store.now))[0]
    assert status.next == NOON + 4500


async def test_missed_for_longer_than_within(shop: Shop) -> None:
    """A row says why nothing was sent."""
    await shop.put("s", Every(hours=1, within=600))
    shop.clock.now = NOON + 3600 + 700
    await shop.fire_all()
    (tick,) = await shop.store.run(looking.ticks_of, "shop", None, None)
    assert (tick.outcome, tick.reason) == ("skipped", "missed for more than within=600 seconds")


async def test_the_clock_is_set_back(shop: Shop) -> None:
    """Nothing is sent twice, also if the schedule is changed meanwhile."""
    await shop.put("s", Every(minutes=1, overlap="allow"))
    for n in range(1, 11):
        shop.clock.now = NOON + 60 * n
        await shop.fire_all()
    assert len(await shop.sent()) == 10
    shop.clock.now = NOON + 300
    await shop.fire_all()
    assert len(await shop.sent()) == 10
    await shop.put("s", Every(seconds=30, overlap="allow"))
    for n in range(11, 23):
        shop.clock.now = NOON + 30 * n
        await shop.fire_all()
    sent = await shop.sent()
    assert len(sent) == len(set(sent)) == 17  # six at half minutes, and 660 seconds


async def test_what_is_due_is_missed_where_another_machine_may_have_sent_it(shop: Shop) -> None:
    """With a SQLite that may not be the only one."""
    await shop.put("s", Every(minutes=15, missed="all"))
    shop.clock.now = NOON + 3700
    await shop.fire(missed_from=shop.clock.now)
    (tick,) = await shop.store.run(looking.ticks_of, "shop", None, None)
    assert (tick.outcome, tick.due) == ("skipped", NOON + 3600)
    assert tick.reason == "missed, and another machine may have sent it: see AMQPJOBS_STORE_SHARED"
    shop.clock.now = NOON + 4500
    await shop.fire(missed_from=NOON + 3700)
    assert len(await shop.sent()) == 1


async def test_a_time_is_skipped_while_the_job_before_runs(shop: Shop) -> None:
    """Until it has ended, or is not heard of for a day."""
    await shop.put("s", Every(hours=1))
    for n in (1, 2):
        shop.clock.now = NOON + 3600 * n
        await shop.fire_all()
    await shop.end("s")
    shop.clock.now = NOON + 3 * 3600
    await shop.fire_all()
    assert [outcome for _, _, outcome in await shop.ticks()] == ["sent", "skipped", "sent"]
    (status,) = await shop.store.run(looking.statuses_of, "shop", shop.jobs, shop.store.now)
    assert status.running == (await shop.sent())[-1]
    assert status.running_until == shop.clock.now + running.HELD
    shop.clock.now += running.HELD
    await shop.fire_all()
    assert (await shop.ticks())[-1][2] == "sent"


async def test_an_end_that_is_told_late_frees_nothing(shop: Shop) -> None:
    """Only the last job counts."""
    await shop.put("s", Every(hours=1))
    shop.clock.now = NOON + 3600
    await shop.fire_all()
    (first,) = await shop.sent()
    await shop.store.run(at_will.run_now, "shop", "s", shop.jobs, shop.store.now)
    await shop.store.run(firing.end, "shop", [("s", first)], shop.store.now)
    shop.clock.now = NOON + 7200
    await shop.fire_all()
    assert (await shop.ticks())[-1][1:] == ("cron", "skipped")


async def test_one_waits_for_the_end_of_the_one_before(shop: Shop) -> None:
    """The newest time, sent with the end, or by the next look if that was missed."""
    await shop.put("s", Every(hours=1, overlap="queue_one"))
    for n in (1, 2, 3):
        shop.clock.now = NOON + 3600 * n
        await shop.fire_all()
    assert [outcome for _, _, outcome in await shop.ticks()] == ["sent", "skipped", "waiting"]
    await shop.end("s")
    assert [outcome for _, _, outcome in await shop.ticks()] == ["sent", "skipped", "sent"]
    assert len(await shop.sent()) == 2
    shop.clock.now = NOON + 3600 * 4
    await shop.fire_all()
    held = await shop.store.run(running.running, "shop", ["s"], shop.clock.now)
    await shop.store.run(running.let_go, "shop", [("s", held["s"][0])])  # and died
    assert (await shop.fire()).sent == 1
    assert len(await shop.sent()) == 3


async def test_a_job_that_is_unknown_is_left_to_others(shop: Shop) -> None:
    """It is shown, and fires when a process knows it."""
    await shop.put("s", Every(hours=1))
    shop.clock.now = NOON + 3600
    fired = await shop.store.run(firing.fire_due, "shop", ["other"], shop.store.now)
    assert (fired.sent, fired.next_in) == (0, None)
    (status,) = await shop.store.run(looking.statuses_of, "shop", ["other"], shop.store.now)
    assert status.problem == "no job of this name here: it is not sent"
    with pytest.raises(ConfigurationError, match="no job of this name here"):
        await shop.store.run(at_will.run_now, "shop", "s", ["other"], shop.store.now)
    assert (await shop.fire()).sent == 1


async def test_a_schedule_of_a_newer_release_is_left_alone(shop: Shop) -> None:
    """It cannot be read here."""
    await shop.put("s", Every(hours=1))
    newer = json.dumps({"version": 2, "kind": "tide", "within": 3})
    await shop.store.run(lambda c: c.execute(update(schedules).values(spec=newer)) and None)
    shop.clock.now = NOON + 3600
    assert (await shop.fire()).schedules == 0
    (status,) = await shop.store.run(looking.statuses_of, "shop", shop.jobs, shop.store.now)
    assert (status.schedule, status.words) == (None, "?")


async def test_a_zone_that_is_gone(shop: Shop) -> None:
    """It is said, and the others fire."""
    await shop.put("s", Every(hours=1))
    await shop.put("other", Every(hours=1))
    gone = rows.spec_text(Cron("@daily", tz="Europe/Berlin")).replace("Berlin", "Nowhere")
    one = update(schedules).where(schedules.c.name == "s").values(spec=gone)
    await shop.store.run(lambda connection: connection.execute(one) and None)
    shop.clock.now = NOON + 3600
    fired = await shop.fire()
    assert (fired.sent, fired.unreadable) == (1, ("s",))
    assert (await shop.fire(without=["s"])).schedules == 0


class Releases:
    """Releases of one app."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    async def sync(self, release: str, **coded: Schedule) -> in_code.Changes:
        """A process of a release tells what its code has."""
        shop = self.shop
        template = await template_for(shop.app.client, shop.report.message(7))
        found = [in_code.Coded(name, each, template) for name, each in coded.items()]
        now = shop.store.now
        return await shop.store.run(in_code.sync, "shop", release, found, shop.jobs, now)

    async def words(self) -> dict[str, str]:
        """What is there, in words."""
        shop = self.shop
        found = await shop.store.run(looking.statuses_of, "shop", shop.jobs, shop.store.now)
        return {each.name: "retired" if each.retired else each.words for each in found}


async def test_two_releases_do_not_fight(shop: Shop) -> None:
    """The newer one counts while it runs; taken back, the older one does."""
    code = Releases(shop)
    hourly, daily = Every(hours=1), Every(days=1)
    assert (await code.sync("old", a=hourly, b=hourly)).put == ("a", "b")
    shop.clock.now += 10
    assert await code.sync("new", a=daily, c=hourly) == in_code.Changes(("a", "c"), ("b",))
    for _ in range(3):
        shop.clock.now += 10
        assert await code.sync("old", a=hourly, b=hourly) == in_code.Changes((), ())
        assert await code.sync("new", a=daily, c=hourly) == in_code.Changes((), ())
    assert await code.words() == {"a": "every day", "b": "retired", "c": "every hour"}
    shop.clock.now += in_code.GONE + 1  # the deployment was taken back
    changes = await code.sync("old", a=hourly, b=hourly)
    assert changes == in_code.Changes(("a", "b"), ("c",))
    shop.clock.now += 10
    assert (await code.sync("new", a=daily, c=hourly)).put == ("a", "c")
    assert await code.words() == {"a": "every day", "b": "retired", "c": "every hour"}


async def test_a_changed_schedule_begins_from_now(shop: Shop) -> None:
    """Nothing is made up for, while one that is as it was keeps its times."""
    code = Releases(shop)
    await code.sync("1", a=Every(hours=1), b=Every(hours=1))
    shop.clock.now += 7200
    await code.sync("2", a=Every(minutes=30), b=Every(hours=1))
    await shop.fire_all()
    ticks: list[TickRecord] = await shop.store.run(looking.ticks_of, "shop", None, None)
    assert [(tick.schedule, tick.due) for tick in ticks] == [("b", NOON + 7200)]


async def test_a_process_that_knows_no_jobs_retires_none(shop: Shop) -> None:
    """As a web tier that imports the app alone; but what nobody has for a day is gone."""
    code = Releases(shop)
    await code.sync("whole", a=Every(hours=1))
    jobs, shop.jobs = shop.jobs, []
    shop.clock.now += 3600
    assert (await code.sync("part")).retired == ()
    shop.clock.now += in_code.FORGOTTEN
    assert (await code.sync("part")).retired == ("a",)
    shop.jobs = jobs
    assert (await code.sync("whole", a=Every(hours=1))).put == ("a",)


async def test_a_pause_outlives_a_release(shop: Shop) -> None:
    """And one that was retired comes back as a new one."""
    code = Releases(shop)
    await code.sync("1", a=Every(hours=1))
    await shop.store.run(rows.pause, "shop", "a", "why", None, shop.store.now)
    shop.clock.now += 10
    await code.sync("2", a=Every(minutes=30))
    shop.clock.now += 7200
    assert (await shop.fire()).schedules == 0
    (status,) = await shop.store.run(looking.statuses_of, "shop", shop.jobs, shop.store.now)
    assert (status.paused, status.note, status.next) == (True, "why", None)


async def test_old_ticks_are_forgotten(shop: Shop) -> None:
    """And schedules that were retired, and releases."""
    code = Releases(shop)
    await code.sync("1", a=Every(days=1), b=Every(days=1))
    shop.clock.now += 86_400
    await shop.fire_all()
    await code.sync("2", b=Every(days=1))
    shop.clock.now += 86_400
    await shop.fire_all()
    shop.clock.now += looking.KEPT - 10
    assert await shop.store.run(looking.prune, "shop", shop.store.now) == 2
    assert len(await shop.ticks()) == 1
    shop.clock.now += 86_400
    await shop.store.run(looking.prune, "shop", shop.store.now)
    assert list(await code.words()) == ["b"]
    await code.sync("3", b=Every(days=1))
    count = select(func.count()).select_from(releases)
    assert await shop.store.run(lambda connection: connection.scalar(count)) == 1


async def test_ten_thousand_are_the_limit(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do."""
    monkeypatch.setattr(rows, "MOST", 2)
    await shop.put("a", Every(hours=1))
    await shop.put("b", Every(hours=1))
    await shop.put("b", Every(hours=2))
    with pytest.raises(ConfigurationError, match="has 2 schedules, and 2 is the limit"):
        await shop.put("c", Every(hours=1))


async def test_a_backfill_has_a_limit(shop: Shop) -> None:
    """It is done in parts."""
    await shop.put("s", Every(seconds=1))
    with pytest.raises(ConfigurationError, match="more than 1000 times in that period"):
        await shop.store.run(
            at_will.backfill, "shop", "s", shop.jobs, NOON - 7200, NOON, shop.store.now
        )
    assert MOST < at_will.MOST


async def test_a_transaction_puts_schedules(settings: Settings, shop: Shop) -> None:
    """With what else it writes, or not at all."""
    engine = async_engine(settings.store_url.get_secret_value())
    try:
        async with engine.begin() as connection:
            within = shop.app.schedules.within(connection)
            await within.put("kept", Every(hours=1), shop.report.message(1))
            await within.put("gone", Every(hours=1), shop.report.message(1))
            assert await within.remove("gone")
            await within.pause("kept", note="later")
            await within.resume("kept")
        with pytest.raises(ZeroDivisionError):
            async with engine.begin() as connection:
                within = shop.app.schedules.within(connection)
                await within.put("lost", Every(hours=1), shop.report.message(1))
                raise ZeroDivisionError
        assert [status.name for status in await shop.app.schedules.list()] == ["kept"]
    finally:
        await shop.app.close()
        await engine.dispose()


async def test_another_database_is_refused(shop: Shop, tmp_path: Any) -> None:
    """Its table is not there."""
    engine = async_engine(f"sqlite:///{tmp_path}/other.db")
    try:
        async with engine.begin() as connection:
            within = shop.app.schedules.within(connection)
            with pytest.raises(ConfigurationError, match="has no table amqpjobs_schedule"):
                await within.put("s", Every(hours=1), shop.report.message(1))
    finally:
        await engine.dispose()
