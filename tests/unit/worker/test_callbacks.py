"""Callbacks as jobs: enqueued when a job has ended, and confirmed before it is acked."""

import aio_pika
import pytest

from amqpjobs import App, Context, Reject, Retry, Selection, Snooze
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.errors import JobFailed
from tests.support.amqp import stranger
from tests.support.waiting import until
from tests.support.workers import app_at, working


class Shop:
    def __init__(self, **options):
        self.app = App("shop", **options)
        self.log = []

        @self.app.job(queue="jobs")
        async def job(how: str) -> str:
            match how:
                case "fail":
                    raise OSError("no")
                case "reject":
                    raise Reject("no")
                case "snooze":
                    self.log.append("snoozed")
                    if self.log.count("snoozed") == 1:
                        raise Snooze(60)
            return how

        @self.app.job(queue="notes")
        async def note(words: str) -> None:
            self.log.append(words)

        self.job, self.note = job, note

    def both(self):
        return self.job.with_options(
            on_success=self.note.message("good"), on_failure=self.note.message("bad")
        )


async def test_a_callback_is_enqueued_when_its_job_has_ended():
    """The one of its end, and not the other."""
    shop = Shop(retry=Retry(attempts=1))
    async with shop.app.testing(raise_errors=False) as t:
        await shop.both().later("fine")
        await t.run_until_idle()
        assert shop.log == ["good"]
        await shop.both().later("fail")
        await t.run_until_idle()
        assert shop.log == ["good", "bad"]
        assert [e.arguments for e in t.enqueued(shop.note)] == [{"words": "good"}, {"words": "bad"}]
        assert len(t.dead()) == 1


async def test_retries_and_snoozes_take_it_along():
    """It is enqueued once, at the end."""
    shop = Shop(retry=Retry(attempts=3))
    async with shop.app.testing(raise_errors=False) as t:
        await shop.both().later("fail")
        await t.run_until_idle()
        assert shop.log == []
        await t.advance(600)
        assert shop.log == ["bad"]
        await shop.both().later("snooze")
        await t.advance(120)
        assert shop.log == ["bad", "snoozed", "snoozed", "good"]


@pytest.mark.parametrize("how", ["reject", "expire", "invalid"])
async def test_whatever_fails_for_good_has_its_callback(how):
    """Expired jobs and those that never got to a handler, too."""
    shop = Shop()
    async with shop.app.testing(raise_errors=False) as t:
        if how == "expire":
            await shop.both().with_options(expires=1).later("late")
            t._clock.advance(60)
        elif how == "reject":
            await shop.both().later("reject")
        else:
            message = shop.both().message("x")
            await shop.app.enqueue(type(message)(
                message.id, message.job, message.queue, b"7", message.options
            ))  # fmt: skip
        await t.run_until_idle()
        assert shop.log == ["bad"]


async def test_a_request_that_fails_has_it_too():
    """Although it is no dead letter."""
    shop = Shop(retry=Retry(attempts=1), exceptions=[OSError])
    async with shop.app.testing() as t:
        with pytest.raises(OSError, match="no"):
            await shop.both().request("fail")
        await t.run_until_idle()
        assert shop.log == ["bad"]
        assert t.dead() == []


async def test_a_replay_has_its_callbacks_still():
    """Of the dead letter that runs again."""
    shop = Shop(retry=Retry(attempts=1))
    async with shop.app.testing(raise_errors=False) as t:
        await shop.both().later("fail")
        await t.run_until_idle()
        await shop.app.dead_letters("jobs").replay(Selection())
        await t.run_until_idle()
        assert shop.log == ["bad", "bad"]


async def test_callbacks_may_have_callbacks_and_delays():
    """A chain of jobs."""
    shop = Shop()
    async with shop.app.testing() as t:
        second = shop.note.with_options(delay=60).message("second")
        first = shop.note.with_options(on_success=second).message("first")
        await shop.job.with_options(on_success=first).later("fine")
        await t.run_until_idle()
        assert shop.log == ["first"]
        await t.advance(60)
        assert shop.log == ["first", "second"]


async def test_the_status_of_a_callback_is_known_by_the_id_of_its_message():
    """The first call has it."""
    shop = Shop()
    async with shop.app.testing() as t:
        callback = shop.note.message("good")
        await shop.job.with_options(on_success=callback).later("fine")
        await t.run_until_idle()
        assert [ran.id for ran in t.runs(shop.note)] == [callback.id]
        status = await shop.app.status(callback.id)
        assert status is not None
        assert status.state == "done"


async def test_a_callback_has_its_own_options_and_the_headers_that_are_propagated():
    """As what the job itself enqueues."""
    app, seen = App("shop", propagate=("tenant", "user")), []

    @app.job(queue="jobs")
    async def job() -> None: ...

    @app.job(queue="notes", retry=Retry(attempts=1), timeout=60)
    async def note(ctx: Context) -> None:
        seen.append((dict(ctx.headers), ctx.tags, ctx.timeout, ctx.will_retry))

    options = {"tags": ("late",), "run_timeout": 5, "retry": Retry(attempts=2)}
    told = note.with_options(headers={"user": "bo", "n": 1}, **options).message()
    async with app.testing() as t:
        call = job.with_options(headers={"tenant": "acme", "user": "ada"}, on_success=told)
        await call.later()
        await t.run_until_idle()
    assert seen == [({"tenant": "acme", "user": "bo", "n": 1}, ("late",), 5.0, True)]


@pytest.mark.parametrize("how", ["fine", "fail"])
async def test_a_callback_whose_queue_is_gone_is_a_dead_letter(how, caplog):
    """Of the queue of its job, which is settled; and it can be replayed."""
    shop = Shop(retry=Retry(attempts=1))
    other = App("other")

    @other.job(queue="elsewhere")
    async def far(words: str) -> None: ...

    async with shop.app.testing(raise_errors=False) as t:
        message = far.message("x")
        await shop.job.with_options(on_success=message, on_failure=message).later(how)
        await t.run_until_idle()
        (letter,) = (dead for dead in t.dead() if dead.job == "far")
        assert (letter.id, letter.queue, letter.reason) == (message.id, "jobs", "unroutable")
        assert "elsewhere" in letter.message
        assert len(t.dead()) == (1 if how == "fine" else 2)
        assert [ran.outcome for ran in t.runs(shop.job)] == ["done" if how == "fine" else "failed"]
    told = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "callback undeliverable, dead-lettered" in told


async def test_a_callback_that_makes_no_sense_is_ignored(caplog):
    """Another program has written it: the job is settled as without it, with a warning."""
    shop = Shop()
    async with shop.app.testing() as t:
        await shop.job.later("first")
        await t.run_until_idle()
        async with stranger(t.url) as channel:
            headers = {"amqpjobs-callbacks": {"success": {"queue": "amqpjobs.recorder"}}}
            message = aio_pika.Message(b'"fine"', type="job", headers=headers)
            await channel.default_exchange.publish(message, routing_key="jobs")
        await t.run_until_idle()
        assert t.results(shop.job) == ["first", "fine"]
    assert "callback unreadable, ignored" in [r.getMessage() for r in caplog.records]


async def test_a_callback_is_confirmed_before_its_job_is_acked():
    """One that is refused for a while keeps its job unacked; it comes once."""
    shop = Shop()
    async with shop.app.testing() as t:
        await shop.job.with_options(on_success=shop.note.message("good")).later("fine")
        with t.faults.refuse_publishes(1):
            await t.run_until_idle()
        assert shop.log == ["good"]
        assert t.results(shop.job) == ["fine"]


async def test_a_request_for_a_job_that_nobody_knows_has_its_callback():
    """It was answered, and is not parked: that is its end."""
    shop, elsewhere = Shop(), App("elsewhere")

    @elsewhere.job(queue="jobs")
    async def unknown() -> None: ...

    async with Broker() as broker:
        settings = app_at(broker.url).settings
        with shop.app.placed(settings=settings), elsewhere.placed(settings=settings):
            async with shop.app.lifespan(), elsewhere.lifespan(), working(shop.app):
                with pytest.raises(JobFailed, match="no job of this name"):
                    await unknown.with_options(on_failure=shop.note.message("bad")).request()
                await until(lambda: shop.log, "the callback")
    assert shop.log == ["bad"]
