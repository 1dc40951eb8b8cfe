"""``async with app.testing() as t:``: an app on a broker of its own, with a clock to be moved.

Changes when a test may do something else with its app.
"""

import asyncio
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from contextvars import copy_context
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from amqpjobs.broker.embedded import Broker, Faults
from amqpjobs.broker.embedded.clock import ManualClock
from amqpjobs.client.question import Question
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.durable.status import StepStatus
from amqpjobs.jobs.durations import Seconds, number_of, seconds_above_zero
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.jobs.schedule.status import TickRecord
from amqpjobs.testing.clock import BrokersClock
from amqpjobs.testing.looking import LooksBack
from amqpjobs.testing.owners import declare_for_owners
from amqpjobs.testing.placement import Place, Placeable, login_of
from amqpjobs.testing.records import (
    Dead,
    Enqueued,
    Record,
    RecordingPublisher,
    dead_letters,
    enqueued_of,
    raise_all,
)
from amqpjobs.testing.remembering import Remembering
from amqpjobs.testing.statuses import HeardStatuses
from amqpjobs.testing.stepped_worker import Working
from amqpjobs.worker.hooks import hooks_run

R = TypeVar("R")
AnyJob: TypeAlias = "Job[..., R, Any]"

A_MILLISECOND = 0.001
"""Seconds. Headers have whole milliseconds, rounded up: `Testing.advance` goes one further, so that
a job with a delay of a minute is due a minute later."""


class NotIdle(AmqpJobsError):
    """Jobs still ran, or waited, when the time of `Testing.run_until_idle` was over."""


class Testing(LooksBack):
    """An app that is tested. Everything is real but the broker, which is in this process: what the
    app publishes goes over a socket, and a worker runs it when the test says so.

    Meanwhile the whole process sees the app on that broker: also its web tier, other threads, and
    the processes of its ``cpu=True`` jobs. The broker that is configured is out of reach. For that
    reason an app is tested once at a time; different apps may be side by side.

    The broker's virtual host and user are those that the app's URL names. It lets every other user
    in as well, to any virtual host, so that other programs of the project can take part.

    Args:
        app: what is tested.
        profile: the version of RabbitMQ that the broker acts as: ``3.10``, ``4.3``.
        raise_errors: whether the errors of jobs are raised in the test, see `run_until_idle`.

    Attributes:
        broker: the embedded broker.
        faults: what can be made to go wrong there.
    """

    __test__ = False  # for pytest, which takes what is called Test... for a test

    def __init__(self, app: Placeable, *, profile: str = "4.3", raise_errors: bool = True) -> None:
        self._app = app
        self._raises = raise_errors
        self._clock = ManualClock()
        user, password, vhost = login_of(app)
        self.broker = Broker(
            profile,
            clock=self._clock,
            user=user,
            password=password,
            virtual_host=vhost,
            accept="any",
        )
        self._record = Record()
        self._worker: Working | None = None
        self._asked: dict[asyncio.Future[Any], Callable[[AmqpJobsError], object]] = {}
        self._goes_for_requests = False
        self._lock = threading.RLock()  # of the two: callers may have event loops in other threads
        self._beginning: asyncio.Task[None] | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._remembering = Remembering(app)
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<Testing {self._app.client.runtime.registry.name}: {self._record!r}>"

    @property
    def faults(self) -> Faults:
        """What can be made to go wrong: `amqpjobs.broker.embedded.Faults`."""
        return self.broker.faults

    @property
    def url(self) -> str:
        """The broker's, for other clients."""
        return self.broker.url

    @property
    def now(self) -> float:
        """The time of the broker and of the app's jobs, in seconds since the epoch."""
        return self._clock.time()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            await self.broker.start()
            stack.push_async_callback(self.broker.stop)
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="amqpjobs-"))
            place = Place(
                self._app,
                self.broker.url,
                clock=BrokersClock(self._clock),
                make=self._publisher,
                store=f"sqlite:///{folder}/status.db",
            )
            declare_for_owners(self.broker.virtual_host, self._app.client.runtime.registry)
            client = place.enter()
            stack.callback(place.leave)
            self._statuses = client.statuses = HeardStatuses(
                client, self._demanded, self._record.told
            )
            stack.callback(self._statuses.end)
            stack.callback(self._remembering.end)
            self._remembering.begin(self._woken)
            await stack.enter_async_context(self._app.client.lifespan())
            await stack.enter_async_context(
                hooks_run(self._app.client.runtime.registry.worker_hooks)
            )
            self._home = copy_context()
            stack.push_async_callback(self._end_work)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        errors = self._record.take_errors() if self._raises else []
        if error is None:
            raise_all(errors)
        elif errors:
            error.add_note(f"Jobs had failed by then: {', '.join(map(repr, errors))}")

    def _publisher(self, runtime: Runtime) -> RecordingPublisher:
        made = RecordingPublisher(runtime)
        made.enqueued = self._record.enqueued.append
        made.known, made.told = self._record.known, self._record.published.append
        made.asked = self._asks
        made.heard = lambda announcement: self._statuses.hear(announcement)
        return made

    async def _working(self) -> Working:
        if self._worker is None:
            host = self.broker.virtual_host
            self._worker = Working(self._app, self._record, host, self._home)
        await self._worker.begin()
        return self._worker

    async def _end_work(self) -> None:
        if self._beginning is not None:
            self._beginning.cancel()
            await asyncio.wait([self._beginning])
        if self._worker is not None:
            await self._worker.end()
        await asyncio.sleep(0)  # what was woken from a thread begins
        if self._sending:
            await asyncio.wait(self._sending)  # else the store would be opened again behind us

    async def run_until_idle(self, timeout: Seconds = 10.0) -> None:
        """Run what is enqueued, and what that enqueues, until nothing runs and nothing is left that
        could. What is not due, what a rate or a kill switch holds back, and retries that are still
        to come are left: `advance` is for these.

        An error of a job is raised here when the job is over: when no retry is left, also by
        `Reject` and for messages that no job here knows or that do not fit. It is the handler's own
        exception, or a `JobFailed` where it raised none. An error that is retried is not raised,
        see `runs`; nor is one that was already raised in a caller of `request`.

        Args:
            timeout: seconds or a timedelta, of the real time.

        Raises:
            NotIdle: it took longer; says what is left.
            ExceptionGroup: several jobs have failed.
        """
        await self._settle(timeout)
        self._raise()

    async def advance(self, seconds: Seconds, timeout: Seconds = 10.0) -> None:
        """Let time pass, without waiting for it, and run what becomes due, each at its time:
        delays, pauses before retries, rates, and what expires. Begins and ends as `run_until_idle`.

        Args:
            seconds: how many, or a timedelta.
            timeout: seconds or a timedelta, of the real time for what becomes due at once.

        Raises:
            NotIdle, ExceptionGroup: see `run_until_idle`.
            ValueError: a time that has been.
        """
        span = number_of(seconds)
        if span is None or not span >= 0:
            raise ValueError(f"time does not go on by {seconds!r}: give 0 seconds or more")
        clock = self._clock
        end = clock.time() + span + A_MILLISECOND
        await self._settle(timeout)
        while (due := await self._next_at()) is not None and due <= end:
            clock.advance(max(0.0, due - clock.time()))
            await self._settle(timeout)
        clock.advance(max(0.0, end - clock.time()))
        await self._settle(timeout)
        self._raise()

    async def _next_at(self) -> float | None:
        """When something is due: on the broker, in the app, or in its store."""
        times = self._clock.next_at(), await self._remembering.next_at()
        return min((each for each in times if each is not None), default=None)

    def _woken(self) -> None:
        """Something was committed, in whatever thread. While a caller waits, it is sent now."""
        with self._lock:
            if not self._asked:
                return

        def send() -> None:
            task = self._loop.create_task(self._remembering.send(), context=self._home)
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

        self._loop.call_soon_threadsafe(send)

    async def _settle(self, timeout: Seconds) -> None:
        worker = await self._working()
        worker.go()
        seconds = seconds_above_zero("timeout", timeout)
        try:
            async with asyncio.timeout(seconds) as limit:
                await worker.until_idle()
                while await self._remembering.until_done():
                    await worker.until_idle()
        except TimeoutError:
            if not limit.expired():
                raise
            raise NotIdle(f"not idle after {seconds:g} s: {worker.what_is_left()}") from None
        finally:
            worker.pause()

    def _raise(self) -> None:
        if self._raises:
            raise_all(self._record.take_errors())

    def _asks(self, question: Question) -> None:
        """A caller waits for a reply, on whatever event loop: jobs have to run for it."""
        self._runs_for(question.future, question.fail)
        question.future.add_done_callback(self._answered)

    @contextmanager
    def _demanded(self, failed: "asyncio.Future[None]") -> Iterator[None]:
        """The same while a caller waits for a result."""

        def fail(error: AmqpJobsError) -> None:
            if not failed.done():
                failed.set_exception(error)

        self._runs_for(failed, fail)
        try:
            yield
        finally:
            self._answered(failed)

    def _runs_for(
        self, future: "asyncio.Future[Any]", fail: Callable[[AmqpJobsError], object]
    ) -> None:
        with self._lock:
            self._asked[future] = fail
        self._loop.call_soon_threadsafe(self._run_for_requests)

    def _answered(self, future: "asyncio.Future[Any]") -> None:
        """A request has ended. Called before its caller goes on, who may enqueue what must not run
        yet: so nothing more is started from here on, not from the next look on."""
        with self._lock:
            self._asked.pop(future, None)
            if not self._asked and self._worker is not None and self._goes_for_requests:
                self._goes_for_requests = False
                self._worker.pause()

    def _run_for_requests(self) -> None:
        if self._beginning is None or self._beginning.done():
            self._beginning = self._loop.create_task(self._begin_for_requests())

    async def _begin_for_requests(self) -> None:
        try:
            worker = await self._working()
        except AmqpJobsError as error:
            for future, fail in tuple(self._asked.items()):
                future.get_loop().call_soon_threadsafe(fail, error)
            raise
        with self._lock:
            if self._asked and not self._goes_for_requests:
                self._goes_for_requests = True
                worker.go()

    async def outbox(self) -> list[Enqueued]:
        """What transactions have sent, and was not handed over to RabbitMQ yet: `run_until_idle`
        does that. In order of the commits.

        Example:
            >>> async with app.testing() as t:
            ...     await t.outbox()
            []
        """
        of = self._app.client.runtime.registry.known
        found = [(of(m.job), m) for m in await self._remembering.outbox()]
        return [enqueued_of(job, message) for job, message in found if job is not None]

    async def ticks(self, schedule: str | None = None) -> list[TickRecord]:
        """The times at which schedules were due since the test began, as far as `advance` has come:
        sent, or skipped and why. In their order.

        Args:
            schedule: the name of one; None for all.

        Example:
            >>> async with app.testing() as t:
            ...     await t.ticks()
            []
        """
        return await self._remembering.ticks(schedule)

    async def steps(self, job_id: str) -> list[StepStatus]:
        """The steps of a durable job, in the order in which they began; none of one that has not
        begun.

        Args:
            job_id: the job's id.

        Example:
            >>> async with app.testing() as t:
            ...     await t.steps("an-id")
            []
        """
        return await self._remembering.steps(job_id)

    def dead(self) -> list[Dead]:
        """The dead letters of all queues, the oldest of each first."""
        return dead_letters(self._app.client.runtime.registry, self.broker.virtual_host)
