"""The life of one delivery: every path through the pipeline ends in the right outcome."""

import asyncio
import contextlib
import logging
import os
import threading
import time

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Queue, Reject, Retry, RetryAfter, Snooze
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.header_names import (
    HEADER_ATTEMPT,
    HEADER_DEADLINE,
    HEADER_DUE,
    HEADER_ERROR,
)
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import (
    DONE_NOTHING,
    Done,
    Expired,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Superseded,
)
from amqpjobs.jobs.run_context import current_context
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.reporting import Reporting
from amqpjobs.worker.run import Run
from amqpjobs.worker.translation import has_job_for
from tests.unit.broker.rabbitmq.fake_wire import turns
from tests.unit.worker.hand import BROKEN_HEADER, BROKEN_TABLE, KEY_OF, Hand, ours

LIMIT = 200


def nobody(run):
    """Takes anything back."""
    return False


class Bench:
    """A pipeline for one app, and the hand that gives it deliveries."""

    def __init__(self, hand):
        self.hand = hand
        self.processing = []
        self.app = App("bench", retry=Retry(attempts=1))
        self.settled = Settled(KEY_OF)
        self.queue = Queue("queue", priorities={"high": 2, "low": 1})
        self.stopping = asyncio.Event()
        self.execution = Execution(2)
        self.only = {}
        self.ran = []

    def job(self, function, **options):
        job = self.app.job(queue=self.queue, **{"name": "job", **options})(function)
        self.only = {"queue": definition_of(job)} if len(self.app.jobs) == 1 else {}
        return job

    def pipeline(self):
        runtime = self.app.client.runtime
        for definition in runtime.registry.jobs.values():
            definition.surround(self.processing)
        return Pipeline(
            runtime, self.execution, self.stopping, self.only, LIMIT, self.settled, nobody
        )

    async def outcome(self, delivery):
        return await self.pipeline().outcome_of(Run(delivery))

    async def of(self, body=b"{}", **properties):
        return await self.outcome(self.hand.give(body=body, **{"type": "job", **properties}))

    async def interrupted(self, delivery, *, by_worker=True):
        """Start a job, and cancel it once it runs."""
        run = Run(delivery)
        task = asyncio.create_task(self.pipeline().outcome_of(run))
        await turns()
        assert not task.done()
        run.interrupted = by_worker
        task.cancel()
        await asyncio.wait([task])
        return task


@pytest.fixture
async def bench():
    async with Hand() as hand:
        yield Bench(hand)


def why(outcome):
    assert isinstance(outcome, Rejected | Parked), outcome
    return outcome.failure.reason


# --- the good ways ---------------------------------------------------------------------------


async def test_a_handler_that_returns_is_done(bench):
    """With what it returned; None is the commonest, and costs no object."""

    async def double(x: int) -> int:
        return 2 * x

    bench.job(double)
    assert await bench.of(b"4") == Done(8)

    async def nothing(x: int) -> None: ...

    bench.job(nothing, name="nothing")
    assert await bench.of(b"4", type="nothing") is DONE_NOTHING


async def test_a_plain_def_runs_in_a_thread(bench):
    """So that it does not stop the others."""

    def where(x: int) -> bool:
        return threading.current_thread() is threading.main_thread()

    bench.job(where)
    assert await bench.of(b"4") == Done(False)


async def test_the_context_says_what_the_message_says(bench):
    """Id, queue, attempt, deadline; the properties are there; the stopping is the worker's."""
    seen = []

    async def look(ctx: Context) -> None:
        seen.append(ctx)

    bench.job(look)
    deadline = round(time.time() + 60) * 1000
    await bench.of(
        message_id="7", user_id="guest", headers={HEADER_ATTEMPT: 3, HEADER_DEADLINE: deadline}
    )
    [context] = seen
    assert (context.job, context.job_id, context.queue) == ("job", "7", "queue")
    assert (context.attempt, context.deadline) == (3, deadline / 1000)
    assert context.message.user_id == "guest"
    assert context.stopping is bench.stopping


async def test_of_a_priority_the_queue_is_the_one_that_people_know(bench):
    """Not the AMQP queue of its priority."""

    async def look(ctx: Context) -> str:
        return ctx.queue

    bench.job(look)
    async with Hand("queue.high") as high:
        assert await bench.outcome(high.give(type="job")) == Done("queue")


async def test_while_a_job_runs_its_context_is_the_current_one(bench):
    """In its thread too; and not any more when it is over."""
    seen = []

    async def look() -> None:
        seen.append(current_context.get().job)

    def look_in_thread() -> None:
        seen.append(current_context.get().job)

    bench.job(look)
    bench.job(look_in_thread, name="thread")
    await bench.of()
    await bench.of(type="thread")
    assert seen == ["job", "thread"]
    assert current_context.get() is None


async def test_a_message_without_a_type_is_the_only_job_of_its_queue(bench):
    """A stranger need not know the job's name, nor make an id."""

    async def look(ctx: Context) -> str:
        return ctx.job_id

    bench.job(look)
    done = await bench.outcome(bench.hand.give(Properties()))
    assert len(done.result) == 36


@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [
        (None, None), ("application/json", None), ("APPLICATION/JSON", "UTF-8"), ("", ""),
        ("application/json; charset=utf-8", "identity"), (" application/json ;x", None),
    ],
)  # fmt: skip
async def test_json_may_be_called_by_all_its_names(bench, content_type, encoding):
    """Or by none."""

    async def take(x: int) -> int:
        return x

    bench.job(take)
    done = await bench.of(b"4", content_type=content_type, content_encoding=encoding)
    assert done == Done(4)


async def test_headers_that_are_not_ours_may_be_broken(bench, caplog):
    """The job runs, its log lines come out, and so does the line about it."""
    caplog.set_level(logging.INFO)

    async def speak(ctx: Context) -> None:
        ctx.log.info("speaking")

    bench.job(speak)
    run = Run(bench.hand.give(header=BROKEN_TABLE))
    assert await bench.pipeline().outcome_of(run) is DONE_NOTHING
    Reporting(arguments=False).report(run, DONE_NOTHING)
    assert caplog.messages == ["speaking", "job done"]


# --- what is no call of a job ------------------------------------------------------------------


async def test_properties_that_cannot_be_read_are_undecodable(bench):
    """The handler is not called."""
    bench.job(never)
    outcome = await bench.outcome(bench.hand.give(header=BROKEN_HEADER))
    assert why(outcome) == "undecodable"
    assert outcome.failure.job is None
    assert outcome.failure.queue == "queue"


async def never(x: int = 0) -> None:
    raise AssertionError("must not be called")


async def test_what_may_run_once_does_not_start_on_a_lost_channel(bench):
    """Nobody could be told that it has begun: it is delivered again."""
    bench.job(never, at_most_once=True)
    delivery = bench.hand.give(type="job")
    delivery.lose()
    outcome = await bench.outcome(delivery)
    assert isinstance(outcome, Released)
    assert not delivery.accepted


async def test_a_name_that_nobody_here_knows_is_parked(bench):
    """A rolling deploy: another worker will know it. The name is shown, so much of it as fits."""
    bench.job(never)
    outcome = await bench.of(type="resize\n" + "x" * 200)
    assert why(outcome) == "unknown-job"
    assert isinstance(outcome, Parked)
    assert "'resize\\nxxx" in outcome.failure.message


async def test_without_a_name_in_a_queue_of_several_jobs_it_is_parked(bench):
    """Nobody can tell which one is meant."""
    bench.job(never)
    bench.job(never, name="other")
    outcome = await bench.of(type=None)
    assert isinstance(outcome, Parked)
    assert "several" in outcome.failure.message


def test_what_can_be_run_here_is_known():
    """For those who bring parked jobs back."""
    app = App("a")
    app.job(queue="q")(never)
    registry = app.client.runtime.registry
    assert has_job_for(registry, Properties(type="never"), "anywhere")
    assert has_job_for(registry, Properties(), "q")
    assert not has_job_for(registry, Properties(type="other"), "q")
    assert not has_job_for(registry, Properties(), "r")


@pytest.mark.parametrize(
    ("properties", "body", "hint"),
    [
        ({"content_type": "text/plain"}, b"4", "content type 'text/plain'"),
        ({"content_type": "application/x-python-pickle"}, b"4", "must be application/json"),
        ({"content_encoding": "br"}, b"4", "content encoding 'br'"),
        ({"content_encoding": "gzip"}, b"4", "gzip that is cut off"),
        ({}, b'"' + b"x" * LIMIT + b'"', "202 bytes, AMQPJOBS_MAX_MESSAGE_SIZE is 200"),
        ({}, b'"four"', "x: Input should be a valid integer"),
        ({}, b"{", "Invalid JSON"),
        ({}, b"", "Invalid JSON"),
        ({}, b"\xff\xfe", "Invalid JSON"),
    ],
)
async def test_a_body_that_is_no_call_of_the_job_is_invalid(bench, properties, body, hint):
    """It will never be one: no run, no retry."""
    bench.job(never)
    outcome = await bench.of(body, **properties)
    assert why(outcome) == "invalid"
    assert hint in outcome.failure.message
    assert outcome.failure.job == "job"


HOSTILE = [0, -1, 1_000_001, 2**62, True, False, "1", b"1", 1.5, [1], {"a": 1}]


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
async def test_an_attempt_that_is_no_count_is_undecodable(bench, value):
    """Strangers write headers."""
    bench.job(never)
    outcome = await bench.of(headers={HEADER_ATTEMPT: value})
    assert why(outcome) == "undecodable"
    assert HEADER_ATTEMPT in outcome.failure.message


@pytest.mark.parametrize("value", [-1, True, "1", b"1", 1.5, [1], {"a": 1}], ids=repr)
async def test_a_deadline_that_is_no_time_is_undecodable(bench, value):
    """Neither run for ever nor dropped without a word."""
    bench.job(never)
    outcome = await bench.of(headers={HEADER_DEADLINE: value})
    assert why(outcome) == "undecodable"
    assert HEADER_DEADLINE in outcome.failure.message


@pytest.mark.parametrize("value", [None, "boom", 5, {"reason": 7}, ["x"]], ids=repr)
async def test_other_headers_of_ours_are_not_looked_at(bench, value):
    """A job that comes back from the dead letters carries why it was there, in any form."""

    async def fine() -> None: ...

    bench.job(fine)
    assert await bench.of(headers={HEADER_ERROR: value}) is DONE_NOTHING


@pytest.mark.parametrize("deadline", [0, 1])
async def test_past_its_deadline_a_job_is_not_started(bench, deadline):
    """Nobody wants its result."""
    bench.job(never)
    assert await bench.of(headers={HEADER_DEADLINE: deadline}) == Expired(deadline / 1000)


async def test_an_expired_job_is_not_even_looked_at(bench):
    """Its body may be wrong."""
    bench.job(never)
    assert await bench.of(b"{", headers={HEADER_DEADLINE: 1}) == Expired(0.001)


async def test_the_largest_deadline_is_far_away(bench):
    """64 bits of milliseconds."""

    async def fine() -> None: ...

    bench.job(fine)
    assert await bench.of(headers={HEADER_DEADLINE: 2**63 - 1}) is DONE_NOTHING


# --- handlers that fail ------------------------------------------------------------------------


async def test_a_handler_that_raises_has_failed(bench):
    """With the exception's name, its words, and where it was: places, no values."""

    async def fail(x: int) -> None:
        raise LookupError("no such album")

    bench.job(fail)
    outcome = await bench.of(b"4")
    assert why(outcome) == "failed"
    failure = outcome.failure
    assert (failure.message, failure.exception, failure.job) == (
        "no such album",
        "LookupError",
        "job",
    )
    assert failure.frames[0].startswith(f"{__file__}:")
    assert failure.frames[0].endswith(" fail")
    assert not any(f"{os.sep}amqpjobs{os.sep}worker" in frame for frame in failure.frames)
    assert isinstance(outcome.error, LookupError)
    assert failure.worker.endswith(f":{os.getpid()}")
    assert abs(failure.time - time.time()) < 60


async def test_an_exception_of_a_module_is_named_with_it(bench):
    """So that it can be looked up."""

    class Own(Exception): ...

    async def fail() -> None:
        raise Own

    bench.job(fail)
    failure = (await bench.of()).failure
    assert failure.exception == f"{__name__}.{Own.__qualname__}"


async def test_only_so_much_of_an_exception_is_kept(bench):
    """It goes into a header."""

    async def fail() -> None:
        raise ValueError("x" * 100_000)

    bench.job(fail)
    assert len((await bench.of()).failure.message) == 1000


async def test_an_exception_without_words_of_its_own_has_failed_too(bench):
    """One whose `__str__` raises must not leave the delivery without an outcome."""

    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")

    async def fail() -> None:
        raise Mute

    bench.job(fail)
    assert why(await bench.of()) == "failed"


async def test_a_reason_may_be_an_exception(bench):
    """`raise Reject(error)` is written soon."""

    async def refuse() -> None:
        raise Reject(LookupError("no such album"))

    bench.job(refuse)
    assert (await bench.of()).failure.message == "no such album"


async def test_what_is_said_of_a_failure_is_text_that_can_be_sent(bench):
    """A file's name that is not UTF-8 has surrogates in it, which AMQP cannot carry: the job would
    come back for ever."""

    async def fail() -> None:
        raise ValueError("no file \udcff")

    bench.job(fail)
    message = (await bench.of()).failure.message
    assert message.encode() == rb"no file \udcff"


class Panic(BaseException):
    """As extension modules raise it, which do not want to be caught."""


@pytest.mark.parametrize("error", [SystemExit(3), Panic("bug")])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_handler_that_wants_to_end_the_process_has_failed(bench, error, kind):
    """Else one job would take down one worker after the other."""

    async def leave() -> None:
        raise error

    def leave_thread() -> None:
        raise error

    bench.job(leave if kind == "async" else leave_thread)
    outcome = await bench.of()
    assert why(outcome) == "failed"
    assert outcome.failure.exception.endswith(type(error).__name__)


@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_job_that_is_rejected_is_rejected(bench, raised, kind):
    """Raised or returned, with the reason for whoever looks at the dead letters."""

    async def refuse() -> object:
        if raised:
            raise Reject("no such album")
        return Reject("no such album")

    def refuse_thread() -> object:
        if raised:
            raise Reject("no such album")
        return Reject("no such album")

    bench.job(refuse if kind == "async" else refuse_thread)
    outcome = await bench.of()
    assert (why(outcome), outcome.failure.message) == ("rejected", "no such album")
    assert outcome.failure.exception is None


async def test_a_handler_that_takes_too_long_is_cancelled_and_has_failed(bench):
    """It sees the cancellation where it awaits."""
    seen = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    bench.job(slow, timeout=0.01)
    outcome = await bench.of()
    assert why(outcome) == "failed"
    assert outcome.failure.exception == "amqpjobs.errors.JobTimeout"
    assert "0.01 s" in outcome.failure.message
    assert seen == ["cancelled"]


async def test_a_timeout_of_the_handlers_own_is_not_taken_for_the_jobs(bench):
    """It says what took too long."""

    async def slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    bench.job(slow, timeout=60)
    assert (await bench.of()).failure.exception == "TimeoutError"


async def test_a_thread_that_takes_too_long_is_left_and_counted_until_it_ends(bench):
    """Nobody can end it; the process knows that it would hold its exit up."""
    ends, ended = threading.Event(), threading.Event()

    def slow() -> None:
        ends.wait(30)
        ended.set()

    bench.job(slow, timeout=0.5)  # in which a thread begins, whatever else the machine does
    outcome = await bench.of()
    assert outcome.failure.exception == "amqpjobs.errors.JobTimeout"
    assert bench.execution.abandoned == 1
    ends.set()
    async with asyncio.timeout(10):
        await asyncio.to_thread(ended.wait)
        while bench.execution.abandoned:
            await asyncio.sleep(0)


async def test_a_thread_that_was_cancelled_before_it_began_is_not_counted(bench):
    """There is none."""

    def quick() -> None: ...

    bench.job(quick)
    task = asyncio.create_task(bench.outcome(bench.hand.give(type="job")))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    async with asyncio.timeout(10):
        while bench.execution.abandoned:
            await asyncio.sleep(0)


# --- cancellation ------------------------------------------------------------------------------


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def blocked_thread(release):
    def wait() -> None:
        release.wait(30)

    return wait


async def test_a_job_that_the_worker_interrupts_is_released(bench):
    """Which is not a failure."""
    bench.job(wait_for_ever)
    task = await bench.interrupted(bench.hand.give(type="job"))
    assert isinstance(task.result(), Released)


async def test_a_job_in_a_thread_that_the_worker_interrupts_is_released(bench):
    """Though the thread runs on."""
    release = threading.Event()
    bench.job(blocked_thread(release))
    task = await bench.interrupted(bench.hand.give(type="job"))
    release.set()
    assert isinstance(task.result(), Released)


async def test_a_job_with_a_timeout_that_the_worker_interrupts_is_released(bench):
    """The interruption is not taken for the timeout."""
    bench.job(wait_for_ever, timeout=60)
    task = await bench.interrupted(bench.hand.give(type="job"))
    assert isinstance(task.result(), Released)


async def test_a_job_that_ends_well_though_it_was_interrupted_is_done(bench):
    """It made it in time: running it again would be for nothing."""

    async def hurry() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "saved"

    bench.job(hurry)
    task = await bench.interrupted(bench.hand.give(type="job"))
    assert task.result() == Done("saved")


async def test_a_job_that_fails_over_its_interruption_is_released(bench):
    """Libraries turn a cancellation into errors of their own; the job is not to blame."""

    async def translate() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed in the middle of an operation") from None

    bench.job(translate)
    task = await bench.interrupted(bench.hand.give(type="job"))
    assert isinstance(task.result(), Released)


async def test_a_job_that_rejects_itself_though_it_was_interrupted_is_rejected(bench):
    """That is its own verdict."""

    async def refuse() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Reject("no such album")

    bench.job(refuse)
    task = await bench.interrupted(bench.hand.give(type="job"))
    assert why(task.result()) == "rejected"


async def test_a_cancellation_that_is_not_the_workers_is_the_jobs_own(bench):
    """Given back, it would be here again at once."""
    bench.job(wait_for_ever)
    task = await bench.interrupted(bench.hand.give(type="job"), by_worker=False)
    assert why(task.result()) == "failed"
    assert task.result().failure.message == "the job cancelled itself"


async def test_a_cancellation_that_ends_everything_is_passed_on(bench):
    """As by `asyncio.run`, which cancels all tasks at its end: the job has not failed."""
    bench.job(wait_for_ever)
    endings = Endings()
    pipeline = Pipeline(
        bench.app.client.runtime, bench.execution, bench.stopping, bench.only, LIMIT,
        bench.settled, nobody,
        endings=endings,
    )  # fmt: skip

    async def worker():
        endings.begin()
        await asyncio.sleep(60)

    tasks = [
        asyncio.create_task(pipeline.outcome_of(Run(bench.hand.give(type="job")))),
        asyncio.create_task(worker()),
    ]
    await turns()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()


async def test_a_job_that_cancels_itself_has_failed(bench):
    """By awaiting what somebody else has cancelled, mostly."""

    async def cancel() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    bench.job(cancel)
    outcome = await bench.of()
    assert (why(outcome), outcome.failure.message) == ("failed", "the job cancelled itself")


# --- middleware --------------------------------------------------------------------------------


def layer(name, seen):
    async def middleware(call_next, context):
        seen.append(f"{name} in {context.job}")
        result = await call_next(context)
        seen.append(f"{name} out {result}")
        return result

    return middleware


@pytest.mark.parametrize("kind", ["async", "thread", "timeout"])
async def test_middleware_is_around_every_job(bench, kind):
    """Outermost first, wherever the handler runs."""
    seen = []
    bench.processing += [layer("a", seen), layer("b", seen)]

    async def on_loop() -> int:
        seen.append("run")
        return 7

    def in_thread() -> int:
        seen.append("run")
        return 7

    bench.job(in_thread if kind == "thread" else on_loop, timeout=9 if kind == "timeout" else None)
    assert await bench.of() == Done(7)
    assert seen == ["a in job", "b in job", "run", "b out 7", "a out 7"]


async def test_middleware_may_end_the_job_without_the_handler(bench):
    """What it returns is the result."""

    async def cached(call_next, context):
        return "from the cache"

    bench.processing.append(cached)
    bench.job(never)
    assert await bench.of(b"1") == Done("from the cache")


async def test_middleware_may_reject_and_may_fail(bench):
    """As a handler may."""

    async def reject(call_next, context):
        raise Reject("not today")

    async def fail(call_next, context):
        raise LookupError

    bench.job(never)
    bench.processing[:] = [reject]
    assert why(await bench.of(b"1")) == "rejected"
    bench.processing[:] = [fail]
    assert why(await bench.of(b"1")) == "failed"


async def test_middleware_may_turn_a_failure_into_a_result(bench):
    """The job is done then."""

    async def forgive(call_next, context):
        try:
            return await call_next(context)
        except LookupError:
            return "forgiven"

    async def fail() -> None:
        raise LookupError

    bench.processing.append(forgive)
    bench.job(fail)
    assert await bench.of() == Done("forgiven")


async def test_middleware_does_not_see_what_is_no_call_of_a_job(bench):
    """There is nothing to be around."""
    seen = []
    bench.processing.append(layer("a", seen))
    bench.job(never)
    await bench.of(b'"four"')
    await bench.of(type="unknown")
    assert seen == []


async def test_a_method_is_rebuilt_from_its_fields(bench):
    """And is given its context."""

    class Album(BaseModel):
        album_id: int

        @bench.app.job(queue=bench.queue)
        async def publish(self, ctx: Context, loudly: bool) -> str:
            return f"{self.album_id} {loudly} {ctx.job}"

    body = b'{"self": {"album_id": 7}, "loudly": true}'
    assert await bench.of(body, type="Album.publish") == Done("7 True Album.publish")
    assert why(await bench.of(b'{"self": {}, "loudly": true}', type="Album.publish")) == "invalid"


class Boom(Exception):
    """What a handler here raises."""


def failing_with(error):
    async def job(n: int) -> None:
        raise error

    return job


async def test_a_job_that_raises_runs_again_until_its_attempts_are_used_up(bench):
    """The policy decides; the attempt is the message's."""
    error = Boom("no")
    bench.job(failing_with(error), retry=Retry(attempts=3, first=8.0, jitter=False))
    first, second, third = [
        await bench.of(b"1", headers={HEADER_ATTEMPT: attempt}) for attempt in (1, 2, 3)
    ]
    assert isinstance(first, Retried)
    assert (first.pause, first.error, first.failure.attempt) == (8.0, error, 1)
    assert isinstance(second, Retried)
    assert second.pause == 16.0
    assert isinstance(third, Rejected)
    assert (third.failure.reason, third.failure.attempt) == ("failed", 3)


async def test_a_job_without_a_policy_has_the_apps(bench):
    """And one with a policy its own."""
    bench.app.client.runtime.registry.retry = Retry(attempts=2, first=5.0, jitter=False)
    bench.job(failing_with(Boom()))
    bench.job(failing_with(Boom()), name="never", retry=Retry(attempts=1))
    again = await bench.of(b"1")
    assert isinstance(again, Retried)
    assert again.pause == 5.0
    assert isinstance(await bench.of(b"1", type="never"), Rejected)


async def test_a_pause_is_drawn_anew_each_time(bench):
    """Full jitter: jobs that failed together do not come back together."""
    bench.job(failing_with(Boom()), retry=Retry(first=100.0))
    pauses = {(await bench.of(b"1")).pause for _ in range(20)}
    assert len(pauses) == 20
    assert all(0 <= pause <= 100 for pause in pauses)


async def test_what_the_policy_gives_up_on_is_dead_at_once(bench):
    """And what it is not for."""
    bench.job(failing_with(Boom()), retry=Retry(give_up_on=Boom))
    bench.job(failing_with(KeyError("x")), name="other", retry=Retry(on=Boom))
    assert isinstance(await bench.of(b"1"), Rejected)
    assert isinstance(await bench.of(b"1", type="other"), Rejected)


@pytest.mark.parametrize("way", ["raised", "returned"])
async def test_retry_after_is_the_pause_and_an_attempt(bench, way):
    """The handler knows better than the policy when."""

    async def job(n: int) -> RetryAfter | None:
        if way == "raised":
            raise RetryAfter(77)
        return RetryAfter(77)

    bench.job(job, retry=Retry(attempts=2))
    again = await bench.of(b"1")
    assert isinstance(again, Retried)
    assert again.pause == 77.0
    last = await bench.of(b"1", headers={HEADER_ATTEMPT: 2})
    assert isinstance(last, Rejected)
    assert "77" in last.failure.message


@pytest.mark.parametrize("way", ["raised", "returned"])
async def test_snooze_puts_a_job_off(bench, way):
    """Whatever its attempt is."""

    async def job(n: int) -> Snooze | None:
        if way == "raised":
            raise Snooze(50)
        return Snooze(50)

    bench.job(job, retry=Retry(attempts=1))
    before = time.time()
    outcome = await bench.of(b"1", headers={HEADER_ATTEMPT: 9})
    assert isinstance(outcome, Snoozed)
    assert before + 50 <= outcome.due <= time.time() + 50


async def test_a_rate_limit_says_so_beside_the_snooze(bench):
    """For whoever starts the queue's jobs; a plain snooze says nothing about the others."""

    async def job(ctx: Context, n: int) -> None:
        raise ctx.rate_limited(50) if n else Snooze(50)

    bench.job(job)
    assert (await bench.of(b"1")).rate_limited == 50
    assert (await bench.of(b"0")).rate_limited is None


async def test_a_retry_beyond_the_deadline_is_a_dead_letter_now(bench):
    """It would be dropped as expired, and nobody would learn why it failed."""
    bench.job(failing_with(Boom()), retry=Retry(first=60.0, jitter=False))
    deadline = round((time.time() + 30) * 1000)
    assert isinstance(await bench.of(b"1", headers={HEADER_DEADLINE: deadline}), Rejected)
    later = round((time.time() + 90) * 1000)
    assert isinstance(await bench.of(b"1", headers={HEADER_DEADLINE: later}), Retried)


async def test_what_comes_long_before_its_time_goes_back_into_the_delays(bench):
    """Clocks differ, and strangers write headers; a little early is waited for elsewhere."""
    bench.job(bench_job(bench))
    due = round((time.time() + 600) * 1000)
    assert await bench.of(b"1", headers={HEADER_DUE: due}) == Snoozed(due / 1000)
    assert bench.ran == []
    soon = round((time.time() + 0.5) * 1000)
    assert isinstance(await bench.of(b"1", headers={HEADER_DUE: soon}), Done)


@pytest.mark.parametrize("due", ["soon", True, -1, 2**63 - 1, 1.5])
async def test_a_time_that_is_none_is_a_dead_letter(bench, due):
    """With why."""
    bench.job(bench_job(bench))
    assert why(await bench.of(b"1", headers={HEADER_DUE: due})) == "undecodable"


def bench_job(bench):
    async def job(n: int) -> None:
        bench.ran.append(n)

    return job


async def test_what_was_settled_before_is_not_run_again(bench):
    """Its ack was lost: RabbitMQ says that it was delivered before."""
    bench.job(bench_job(bench))
    given = ours("7", body=b"1")
    bench.settled.remember(bench.hand.give(**given))
    again = bench.hand.give(redelivered=True, **given)
    assert isinstance(await bench.outcome(again), Superseded)
    assert bench.ran == []
    assert isinstance(await bench.outcome(bench.hand.give(**given)), Done)
    assert bench.ran == [1]
