"""Hooks at the ends of jobs: called once, after the settlement, and never at the job's cost."""

import asyncio
import contextvars
import threading
from contextlib import asynccontextmanager
from typing import Annotated

import aio_pika
import pytest
from pydantic import AfterValidator

from amqpjobs import App, Context, Ended, Queue, Reject, Retry, Snooze
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import DONE_NOTHING, Rejected
from amqpjobs.jobs.run_context import current_context
from amqpjobs.settings import Settings
from amqpjobs.worker.ending_hooks import HookCalls, ended_by
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.run import Run
from tests.support.amqp import stranger
from tests.unit.worker.hand import Hand

value: contextvars.ContextVar[str] = contextvars.ContextVar("value", default="of nobody")


class Seen:
    """An app whose hooks keep what they get."""

    def __init__(self, **options):
        self.app = App("hooks", **options)
        self.failed: list[Ended] = []
        self.retried: list[Ended] = []
        self.succeeded: list[Ended] = []

        @self.app.on_failed
        async def failed(ended: Ended) -> None:
            self.failed.append(ended)

        @self.app.on_retry
        def retried(ended: Ended) -> None:
            self.retried.append(ended)

        @self.app.on_success
        async def succeeded(ended: Ended) -> None:
            self.succeeded.append(ended)


async def test_each_end_calls_its_hooks_once():
    """With what is known of it."""
    seen = Seen(retry=Retry(attempts=2))

    @seen.app.job(queue="q")
    async def job(n: int, word: str = "x") -> int:
        if n:
            raise OSError("no")
        return 42

    async with seen.app.testing(raise_errors=False) as t:
        good, bad = await job.later(0, word="y"), await job.later(1)
        await t.run_until_idle()
        await t.advance(60)
    (done,) = seen.succeeded
    assert (done.job, done.id, done.queue, done.attempt) == ("job", good.id, "q", 1)
    assert (done.outcome, done.result, done.failure) == ("done", 42, None)
    assert done.arguments == {"n": 0, "word": "y"}
    (again,), (failed,) = seen.retried, seen.failed
    assert (again.id, again.attempt, again.outcome) == (bad.id, 1, "retried")
    assert (failed.id, failed.attempt, failed.outcome) == (bad.id, 2, "failed")
    assert failed.failure is not None
    assert (failed.failure.message, failed.failure.exception) == ("no", "OSError")
    assert isinstance(failed.error, OSError)
    assert failed.arguments == {"n": 1}


async def test_what_never_got_to_a_handler_has_failed_too():
    """Expired, rejected, not fitting. What is put off, or parked, goes on."""
    seen = Seen()

    @seen.app.job(queue="q")
    async def job(how: str) -> None:
        raise Reject("no") if how == "reject" else Snooze(3600)

    async with seen.app.testing(raise_errors=False) as t:
        await job.with_options(expires=1).later("late")
        t._clock.advance(60)
        await job.later("reject")
        await job.later("snooze")
        async with stranger(t.url) as channel:
            for body, kind in ((b"7", "job"), (b'"x"', "unknown")):
                message = aio_pika.Message(body, type=kind, message_id=f"id of {kind}")
                await channel.default_exchange.publish(message, routing_key="q")
        await t.run_until_idle()
    found = {ended.outcome: ended for ended in seen.failed}
    assert sorted(found) == ["expired", "invalid", "rejected"]
    assert found["expired"].arguments == {"how": "late"}
    assert found["expired"].failure is not None
    assert found["invalid"].arguments is None
    assert found["invalid"].id == "id of job"
    assert not seen.succeeded
    assert not seen.retried


async def test_a_hook_may_be_of_one_job():
    """Others do not call it; its place in the file does not matter."""
    app, seen = App("hooks"), []

    @app.job(queue="q")
    async def one() -> None: ...

    @app.job(queue="q")
    async def other() -> None: ...

    @app.on_success(one)
    @app.on_success(other)
    def note(ended: Ended) -> None:
        seen.append(ended.job)

    @app.on_success(one)
    def note_one(ended: Ended) -> None:
        seen.append(f"only {ended.job}")

    async with app.testing() as t:
        await one.later()
        await other.later()
        await t.run_until_idle()
    assert sorted(seen) == ["one", "only one", "other"]


@pytest.mark.parametrize("raised", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
async def test_a_hook_that_raises_costs_nothing(caplog, raised):
    """It is logged; the next hook is called, and so is that of the next job."""
    app, seen = App("hooks"), []

    @app.on_success
    async def broken(ended: Ended) -> None:
        raise raised

    @app.on_success
    def note(ended: Ended) -> None:
        seen.append(ended.id)

    @app.job(queue="q")
    async def job() -> str:
        return "done"

    async with app.testing() as t:
        await job.later()
        await job.later()
        await t.run_until_idle()
        assert t.results(job) == ["done", "done"]
    assert len(seen) == 2
    (line, _) = [r for r in caplog.records if r.getMessage() == "hook failed"]
    assert line.job == "job"
    assert line.hook.endswith("broken")


async def test_a_hook_that_cancels_itself_is_one_that_raised(caplog):
    """The worker goes on."""
    app = App("hooks")

    @app.on_success
    async def broken(ended: Ended) -> None:
        raise asyncio.CancelledError

    @app.job(queue="q")
    async def job() -> None: ...

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == ["hook failed"]


async def test_hooks_run_in_the_home_of_the_worker():
    """With the resources of the app, and nothing that the job has set; plain functions in a
    thread."""

    @asynccontextmanager
    async def lifespan(app):
        yield "pool"

    app, seen = App("hooks", lifespan=lifespan), []

    @app.job(queue="q")
    async def job() -> None:
        value.set("of the job")

    @app.on_success
    async def awaited(ended: Ended) -> None:
        seen.append((value.get(), current_context.get(), app.resources()))

    @app.on_success
    def in_a_thread(ended: Ended) -> None:
        assert threading.current_thread() is not threading.main_thread()
        seen.append((value.get(), current_context.get(), app.resources()))

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
    assert seen == [("of nobody", None, "pool")] * 2


async def test_a_hook_may_enqueue_and_the_test_runs_that_too():
    """It is not idle before."""
    app = App("hooks")

    @app.job(queue="q")
    async def first() -> None: ...

    @app.job(queue="q")
    async def second(of: str) -> str:
        return of

    @app.on_success(first)
    async def go_on(ended: Ended) -> None:
        await asyncio.sleep(0.01)
        await second.later(ended.job)

    async with app.testing() as t:
        await first.later()
        await t.run_until_idle()
        assert t.results(second) == ["first"]


async def test_hooks_that_do_not_end_are_cancelled(caplog):
    """At the end of the budget, with a line that says how many."""
    app = App("hooks")
    hooks = app._registry.ending_hooks
    started = asyncio.Event()

    @app.on_success
    async def endless(ended: Ended) -> None:
        started.set()
        await asyncio.Event().wait()

    async with Hand() as hand:
        intake = Intake([Queue("queue")], 1, lambda delivery: None)
        calls = HookCalls(hooks, contextvars.copy_context(), intake, 1, most=2)
        calls.ended(Run(hand.give(type="x")), DONE_NOTHING)
        await started.wait()
        calls.ended(Run(hand.give(type="x")), DONE_NOTHING)
        intake.offer(hand.give(type="x"))
        assert intake.waiting == 1  # paused
        await calls.finish(asyncio.get_running_loop().time())
        assert calls.idle
        assert intake.waiting == 0
    told = [r.getMessage() for r in caplog.records]
    assert told == ["hooks are behind", "hooks cancelled, worker is stopping"]


async def test_an_app_without_hooks_has_no_observer_of_them():
    """They cost nothing where there are none."""
    app = App("hooks")

    @app.job(queue="q")
    async def job(ctx: Context) -> None: ...

    async with app.testing() as t:
        await job.later()
        await t.run_until_idle()
        assert t._worker is not None
        assert t._worker._consuming is not None
        assert t._worker._consuming.hook_calls is None


def test_what_is_no_function_is_refused():
    """Where it is declared."""
    app = App("hooks")

    @app.job(queue="q")
    async def job() -> None: ...

    for wrong in (None, "job", lambda: None, lambda ended, more: None):
        with pytest.raises(ConfigurationError, match="@app.on_failed"):
            app.on_failed(wrong)
    with pytest.raises(ConfigurationError, match="@app.on_failed"):
        app.on_failed(job)(job)


async def test_hooks_do_not_read_what_may_end_a_worker():
    """The arguments of a job in quarantine are validated by its own process alone; nor do
    validators that raise, whatever it is, cost the hook."""
    app, read = App("hooks"), []

    def exits(value: int) -> int:
        read.append(value)
        raise SystemExit(3)

    @app.job(queue="queue")
    async def job(n: Annotated[int, AfterValidator(exits)]) -> None: ...

    poison = Rejected(Failure("poison", "it died"))
    async with Hand() as hand:
        for quarantine, times in ((object(), 0), (None, 1)):
            run = Run(hand.give(type="job", message_id="7", body=b"4"), quarantine)
            run.definition = app.jobs["job"]
            ended = ended_by("job", run, poison)
            assert (ended.id, ended.outcome, ended.arguments) == ("7", "poison", None)
            assert len(read) == times


async def test_hooks_have_the_arguments_of_compressed_jobs():
    """As the handler has them."""
    settings = Settings(compress="gzip", compress_above=10)
    app, seen = App("hooks", settings=settings), []

    @app.job(queue="queue")
    async def job(words: str) -> None: ...

    @app.on_success
    def keep(ended: Ended) -> None:
        seen.append(ended.arguments)

    async with app.testing() as t:
        await job.later("long " * 100)
        await t.run_until_idle()
    assert seen == [{"words": "long " * 100}]
