"""Handles in `app.testing()`: status, result and watch, with no recorder and at the test's time."""

import asyncio
from datetime import timedelta

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Reject, Retry
from amqpjobs.errors import ConfigurationError, JobFailed, NoResult, ResultTimeout
from amqpjobs.settings import Settings
from tests.support.waiting import until


class NotEnough(Exception):
    """An exception of the app's own."""


app = App("handles", retry=Retry(attempts=2, first=60, jitter=False), exceptions=[NotEnough])
camera = {"on": True}


class Sizes(BaseModel):
    width: int
    label: str | None = None


@app.job(queue="handles", keep_result=timedelta(hours=1))
async def measure(width: int) -> Sizes:
    if not camera["on"]:
        raise ConnectionError("the camera is off")
    return Sizes(width=width)


@app.job(queue="handles", keep_result=True)
async def refuse(how: str) -> None:
    if how == "own":
        raise NotEnough("two are missing")
    if how == "unknown":
        raise LookupError("no such album: 7")
    raise Reject("Sorry: no such album")


@app.job(queue="handles", keep_result=True)
async def ask_another(ctx: Context, width: int) -> int:
    handle = await measure.later(width)
    await ctx.progress(0.5, "asked")
    return (await handle.result(timeout=5)).width


@app.job(queue="handles")
async def forgetful() -> int:
    return 1


@app.job(queue="handles", track=False)
async def silent() -> int:
    return 1


async def test_a_result_is_validated_into_the_return_type():
    """A model comes back as that model. Jobs run while somebody waits, as for a request."""
    async with app.testing() as t:
        handle = await measure.later(3)
        queued = await handle.status()
        assert (queued.state, queued.attempt) == ("queued", 0)
        assert not t.runs()
        assert await handle.result(timeout=5) == Sizes(width=3)
        assert await app.result(handle.id) == Sizes(width=3)
        other = await measure.later(4)
        await asyncio.sleep(0.1)
        assert (await other.status()).state == "queued"  # nobody waits for it


async def test_the_status_is_there_once_the_job_has_run():
    """And a watch of a job that has ended ends."""
    async with app.testing() as t:
        handle = await measure.later(3)
        await t.run_until_idle()
        status = await handle.status()
        assert status == await app.status(handle.id)
        assert (status.state, status.result) == ("done", {"width": 3, "label": None})
        assert abs(status.ended_at - t.now) < 5
        assert [status async for status in handle.watch()] == [status]


async def test_a_watch_sees_each_change():
    """Each newer than the one before; it starts nothing by itself."""
    async with app.testing() as t:
        handle = await ask_another.later(3)
        seen = []
        see = seen.append

        async def watch() -> None:
            async for status in handle.watch():
                see(status)

        watching = asyncio.create_task(watch())
        await until(lambda: seen, "it watches")
        await t.run_until_idle()
        await watching
        assert (seen[0].state, seen[0].progress) == ("queued", None)
        assert (seen[-1].state, seen[-1].progress) == ("done", 1.0)
        assert [s.sequence for s in seen] == sorted({s.sequence for s in seen})


async def test_times_are_those_of_the_test():
    """So is the time for which a result is kept."""
    async with app.testing() as t:
        began = t.now
        camera["on"] = False
        handle = await measure.later(3)
        waiting = asyncio.create_task(handle.result(timeout=30))
        await until(lambda: t.runs(), "it ran")
        status = await handle.status()
        assert (status.state, round(status.due_at - began)) == ("retrying", 60)
        camera["on"] = True
        await t.advance(60)
        assert (await waiting).width == 3
        assert round((await handle.status()).ended_at - began) == 60
        await t.advance(3600)
        with pytest.raises(NoResult, match="AMQPJOBS_RESULT_TTL") as caught:
            await handle.result()
        assert caught.value.state == "done"


async def test_a_job_that_failed_raises_what_a_request_raises():
    """With the words of its error, its class, and its attempt; or its own exception."""
    async with app.testing(raise_errors=False) as t:
        own, unknown, rejected = [await refuse.later(how) for how in ("own", "unknown", "reject")]
        await t.run_until_idle()
        await t.advance(60)
        with pytest.raises(NotEnough, match="^two are missing$"):
            await own.result()
        with pytest.raises(JobFailed, match="^no such album: 7") as failed:
            await unknown.result()
        error = failed.value
        assert (error.error, error.job, error.attempt) == ("LookupError", "refuse", 2)
        assert error.job_id == unknown.id
        with pytest.raises(JobFailed, match="^Sorry: no such album") as failed:
            await rejected.result()
        assert failed.value.error == "rejected"


async def test_an_error_that_was_raised_here_is_not_raised_again():
    """As that of a request; the error of another job is."""
    async with app.testing() as t:
        handle = await refuse.later("reject")
        with pytest.raises(JobFailed, match="Sorry"):
            await handle.result(timeout=5)
        await t.run_until_idle()
        handle = await refuse.later("reject")
        with pytest.raises(JobFailed, match="Sorry"):
            await t.run_until_idle()


async def test_when_the_time_is_over_the_job_goes_on():
    """The error says how it is."""
    async with app.testing() as t:
        handle = await measure.with_options(delay=60).later(3)
        with pytest.raises(ResultTimeout, match=r"after 0\.1 s: it is 'queued'") as caught:
            await handle.result(timeout=0.1)
        error = caught.value
        assert (error.job_id, error.timeout, error.state) == (handle.id, 0.1, "queued")
        await t.advance(60)
        assert (await handle.result(timeout=5)).width == 3
        with pytest.raises(ResultTimeout, match="does a recorder run"):
            await app.result("unknown", timeout=0.1)
        with pytest.raises(ConfigurationError, match="timeout is a number"):
            await handle.result(timeout=0)


@pytest.mark.parametrize("job", [forgetful, silent])
async def test_a_job_that_keeps_no_result_says_so_at_once(job):
    """And how to change it. Nothing is waited for."""
    async with app.testing():
        handle = await job.later()
        with pytest.raises(NoResult, match=r"keep_result=True"):
            await handle.result()


async def test_events_that_are_switched_off_are_named():
    """Nothing is known of any job then."""
    quiet = App("quiet", settings=Settings(events=False))

    @quiet.job(queue="quiet", keep_result=True)
    async def work() -> int:
        return 1

    async with quiet.testing():
        handle = await work.later()
        assert await handle.status() is None
        with pytest.raises(NoResult, match="AMQPJOBS_EVENTS=0"):
            await handle.result()


async def test_many_handles_of_one_call():
    """Those of `later_many` ask, too; and inside of a job."""
    async with app.testing():
        handles = await app.later_many([ask_another.message(n) for n in (1, 2)])
        assert [await handle.result(timeout=5) for handle in handles] == [1, 2]


async def test_handles_of_a_blocking_client():
    """The same three, in a thread."""
    async with app.testing():

        def work() -> None:
            with app.blocking() as client:
                handle = client.later(measure.message(3))
                assert handle.status().state == "queued"
                assert handle.result(timeout=5) == Sizes(width=3)
                assert [status.state for status in handle.watch()] == ["done"]
                assert client.result(handle.id) == Sizes(width=3)
                assert client.status(handle.id) == handle.status()
                [other] = client.later_many([measure.message(4)])
                for status in other.watch():
                    assert status.state == "queued"
                    break  # the watch ends with the loop
                with pytest.raises(ResultTimeout):
                    client.later(measure.with_options(delay=9).message(1)).result(timeout=0.1)
            with pytest.raises(ConfigurationError, match="with app.blocking"):
                handle.status()

        await asyncio.to_thread(work)


async def test_results_are_waited_for_by_several_at_once():
    """Jobs stop when the last has its own."""
    async with app.testing() as t:
        handle = await measure.later(3)
        found = await asyncio.gather(*(handle.result(timeout=5) for _ in range(3)))
        assert found == [Sizes(width=3)] * 3
        assert len(t.runs()) == 1


async def test_who_watches_at_the_end_of_the_test_comes_to_an_end():
    """It is not left waiting."""
    async with app.testing():
        handle = await measure.with_options(delay=60).later(3)
        updates = handle.watch()
        assert (await anext(updates)).state == "queued"
        waiting = asyncio.create_task(anext(updates, None))
        await asyncio.sleep(0)
    assert await waiting is None
