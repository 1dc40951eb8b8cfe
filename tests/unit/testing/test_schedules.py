"""Schedules of an app that is tested: they fire when the test moves the clock."""

from datetime import UTC, datetime, timedelta

import pytest

from amqpjobs import App, Context, Cron, Every, Retry, Tick
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.schedule import Overlap


def first_of(ctx: Context) -> Tick:
    """The tick of a job."""
    assert ctx.tick is not None
    return ctx.tick


async def test_a_schedule_fires_at_its_times() -> None:
    """Each job knows for which time it is, and the one before."""
    app = App("shop")
    seen: list[Tick] = []

    @app.job(queue="polls", schedule=Every(minutes=5))
    async def poll(ctx: Context) -> None:
        seen.append(first_of(ctx))

    async with app.testing() as t:
        begin = t.now
        await t.run_until_idle()
        assert seen == []
        await t.advance(900)
        dues = [
            due for due in range(int(begin), int(begin) + 901) if due % 300 == 0 and due > begin
        ]
        assert [tick.due for tick in seen] == dues
        assert [tick.previous for tick in seen] == [None, *dues[:-1]]
        assert {tick.how for tick in seen} == {"cron"}
        ticks = await t.ticks()
        assert [tick.due for tick in ticks] == dues
        assert {tick.outcome for tick in ticks} == {"sent"}
        assert [tick.job_id for tick in ticks] == [ran.id for ran in t.runs(poll)]
        assert await t.ticks("another") == []


async def test_times_are_those_of_the_zone() -> None:
    """Every day at seven, in Berlin."""
    app = App("shop")

    @app.job(queue="reports", schedule=Cron("0 7 * * *", tz="Europe/Berlin"))
    async def report(ctx: Context) -> str:
        return first_of(ctx).due_time.strftime("%H:%M %Z")

    async with app.testing() as t:
        await t.advance(timedelta(days=3))
        assert [result[:5] for result in t.results(report)] == ["07:00"] * 3


async def test_schedules_are_put_at_run_time() -> None:
    """With arguments; replaced, listed, looked at, removed."""
    app = App("shop")

    @app.job(queue="reports")
    async def report(tenant: int) -> int:
        return tenant

    async with app.testing() as t:
        put = await app.schedules.put("tenant-7", Every(hours=1), report.message(7))
        assert (put.name, put.job, put.in_code, put.words) == (
            "tenant-7", report.name, False, "every hour",
        )  # fmt: skip
        await t.advance(7200)
        assert t.results(report) == [7, 7]
        again = await app.schedules.put("tenant-7", Every(hours=1), report.message(8))
        assert again.next == put.next + 7200 if put.next else False
        await t.advance(3600)
        assert t.results(report) == [7, 7, 8]
        (status,) = await app.schedules.list()
        assert status.last is not None
        assert status.last.outcome == "sent"
        assert await app.schedules.get("tenant-7") == status
        assert await app.schedules.get("tenant-8") is None
        times = await app.schedules.next("tenant-7", 2)
        assert times[1] - times[0] == timedelta(hours=1)
        assert await app.schedules.remove("tenant-7")
        assert not await app.schedules.remove("tenant-7")
        await t.advance(3600)
        assert t.results(report) == [7, 7, 8]


async def test_a_pause_is_not_made_up_for() -> None:
    """Neither until it is resumed, nor until a time."""
    app = App("shop")

    @app.job(queue="polls", schedule=Every(hours=1, missed="all"))
    async def poll() -> None: ...

    async with app.testing() as t:
        await t.run_until_idle()
        paused = await app.schedules.pause("poll", note="moving")
        assert (paused.paused, paused.note, paused.next) == (True, "moving", None)
        assert await app.schedules.next("poll") == []
        await t.advance(timedelta(hours=5))
        assert t.runs(poll) == []
        resumed = await app.schedules.resume("poll")
        assert (resumed.paused, resumed.note) == (False, None)
        await t.advance(timedelta(hours=1))
        assert len(t.runs(poll)) == 1
        until = datetime.fromtimestamp(t.now, UTC) + timedelta(hours=3)
        paused = await app.schedules.pause("poll", until=until)
        assert paused.next is not None
        assert paused.next > until.timestamp()
        await t.advance(timedelta(hours=3))
        assert len(t.runs(poll)) == 1
        await t.advance(timedelta(hours=1))
        assert len(t.runs(poll)) == 2
        status = await app.schedules.get("poll")
        assert status is not None
        assert (status.paused, status.paused_until) == (False, None)


async def test_run_now_and_backfill_are_sent_once() -> None:
    """Whoever asks twice gets one job."""
    app = App("shop")
    seen: list[tuple[str, float]] = []

    @app.job(queue="reports", schedule=Cron("0 * * * *"))
    async def report(ctx: Context) -> None:
        seen.append((first_of(ctx).how, first_of(ctx).due))

    async with app.testing() as t:
        await t.advance(3600)
        first = await app.schedules.run_now("report")
        assert (await app.schedules.run_now("report")).id == first.id
        await t.run_until_idle()
        assert [how for how, _ in seen] == ["cron", "run_now"]
        due = seen[0][1]
        begin = datetime.fromtimestamp(due, UTC) - timedelta(hours=3)
        handles = await app.schedules.backfill("report", begin, due + 86_400)
        assert len(handles) == 3  # the fourth was sent
        assert await app.schedules.backfill("report", begin, due + 86_400) == []
        await t.run_until_idle()
        assert seen[2:] == [("backfill", due - 3600 * n) for n in (3, 2, 1)]


@pytest.mark.parametrize(("overlap", "runs"), [("skip", 3), ("allow", 5), ("queue_one", 4)])
async def test_overlap(overlap: Overlap, runs: int) -> None:
    """The first job is tried again for two and a half hours: until then it has not ended."""
    app = App("shop")
    ran: list[tuple[int, int]] = []

    @app.job(
        queue="polls",
        schedule=Every(hours=1, overlap=overlap),
        retry=Retry(attempts=4, first=3000, factor=1, limit=3000, jitter=0),
    )
    async def poll(ctx: Context) -> None:
        ran.append((round(first_of(ctx).due), ctx.attempt))
        if first_of(ctx).previous is None and ctx.attempt < 4:
            raise ConnectionError("not yet")

    async with app.testing(raise_errors=False) as t:
        await t.advance(3600 - t.now % 3600)
        first = ran[0][0]
        await t.advance(4 * 3600)
        dues = {due for due, _ in ran}
        assert len(dues) == runs
        ticks = {round((tick.due - first) / 3600): tick for tick in await t.ticks()}
        if overlap == "skip":
            assert [ticks[n].outcome for n in range(5)] == [
                "sent", "skipped", "skipped", "sent", "sent",
            ]  # fmt: skip
            assert ticks[1].reason == f"the job before has not ended: {ticks[0].job_id}"
        if overlap == "queue_one":
            assert [ticks[n].outcome for n in range(5)] == [
                "sent", "skipped", "sent", "sent", "sent",
            ]  # fmt: skip
            assert ticks[1].reason == "a later time waits for the end of the job before"


async def test_what_was_put_wrongly() -> None:
    """Says what to write."""
    app = App("shop")

    @app.job(queue="reports", schedule=Every(hours=1))
    async def report() -> None: ...

    with pytest.raises(ConfigurationError, match="is kept in the store, and none is set: set"):
        await app.schedules.list()
    async with app.testing() as t:
        await t.run_until_idle()
        put = app.schedules.put
        with pytest.raises(ConfigurationError, match="is in the code"):
            await put("report", Every(hours=2), report.message())
        with pytest.raises(ConfigurationError, match="leave delay= out"):
            await put("other", Every(hours=2), report.with_options(delay=3).message())
        with pytest.raises(ConfigurationError, match="has no time zone"):
            await app.schedules.pause("report", until=datetime(2040, 1, 1))
        with pytest.raises(ConfigurationError, match="did you mean 'report'"):
            await app.schedules.pause("repor")
        with pytest.raises(ConfigurationError, match="there is no schedule 'x'; there are: report"):
            await app.schedules.next("x")
        with pytest.raises(ConfigurationError, match="remove it there, or pause it"):
            await app.schedules.remove("report")
        with pytest.raises(ConfigurationError, match="time that passed"):
            await app.schedules.pause("report", until=datetime(2020, 1, 1, tzinfo=UTC))


async def test_jitter_and_expiry() -> None:
    """The job is delayed by its jitter; what is not started in time is not run."""
    app = App("shop")

    @app.job(queue="polls", schedule=Every(hours=1, jitter=600))
    async def poll(ctx: Context) -> float:
        return first_of(ctx).due

    @app.job(queue="mails")
    async def mail() -> None: ...

    async with app.testing() as t:
        await app.schedules.put("m", Every(hours=1), mail.with_options(expires=60).message())
        await t.advance(3600 - t.now % 3600)
        assert [ran.outcome for ran in t.runs(mail)] == ["done"]
        assert t.results(poll) == []
        await t.advance(600)
        assert t.results(poll) == [float(int(t.now) // 3600 * 3600)]
