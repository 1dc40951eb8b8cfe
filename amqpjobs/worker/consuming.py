"""The parts of a worker that consume, made in one place when its connection is there.

Changes when a worker gets another part, or a part another neighbour.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.shared_topology import SharedTopology
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.client.nested_requests import NestedRequests
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.compression import compression_of
from amqpjobs.jobs.queue.queue import Lane, Queue, lanes_of
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.state.working import NO_MEMORY, WorkersMemory
from amqpjobs.telemetry.health.condition import condition
from amqpjobs.telemetry.health.heartbeat import notify
from amqpjobs.worker.absence import Presence
from amqpjobs.worker.batching import batches_of, prefetches_of
from amqpjobs.worker.callbacks import callbacks_by
from amqpjobs.worker.cancellation import Control
from amqpjobs.worker.cancelled_jobs import CancelledJobs
from amqpjobs.worker.consumer_timeout import Overtime
from amqpjobs.worker.deferral import Deferral
from amqpjobs.worker.durable import durable_jobs_of
from amqpjobs.worker.ending_hooks import hook_calls_of
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.events import Announcer
from amqpjobs.worker.execution.handlers import Execution, over_time
from amqpjobs.worker.executor import Executor
from amqpjobs.worker.flow.token_bucket import prefetch_of
from amqpjobs.worker.furnishing import furnish
from amqpjobs.worker.holds import Holds
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.limits import limits_of
from amqpjobs.worker.observing import measure, spans_of
from amqpjobs.worker.operating import Operating
from amqpjobs.worker.parking import Parking
from amqpjobs.worker.pausing import Pausing
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.quarantine import Quarantine
from amqpjobs.worker.recently_settled import Settled, identity_in
from amqpjobs.worker.redeliveries import Redeliveries
from amqpjobs.worker.replying import Answering
from amqpjobs.worker.reporting import Observer, Observers, Reporting
from amqpjobs.worker.room import Room
from amqpjobs.worker.run import Run
from amqpjobs.worker.settlement import Settlement
from amqpjobs.worker.singletons import singletons_of
from amqpjobs.worker.snapshot import Snapshot, snapshot_of
from amqpjobs.worker.stalled import Progress
from amqpjobs.worker.ticked import ends_told_to
from amqpjobs.worker.translation import has_job_for, translation_of

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.worker.metrics import Metered

log = logging.getLogger("amqpjobs.worker")


class Consuming:
    """What consumes: from the subscriptions over the intake to the executor.

    Args:
        runtime: whose jobs.
        queues: to consume.
        concurrency: jobs at once.
        prefetch: deliveries held of each queue.
        link: the consuming connection.
        publisher: where copies, replies and events go.
        execution: how handlers are run.
        room: told of a job that found none.
        stopping: set when the worker is told to stop.
        started: called with nothing for each job that is started; None for nobody.
        topology: of the queues, declared or checked on each connection.
        observers: told of each end after the log line, events, spans and metrics.
        stack: left when the worker has stopped.
        memory: what it has of the store.

    Attributes:
        running: the runs under way, in quarantine too, with their tasks.
        ignoring: handlers that go on although their runs are over.
        report: tells all observers of a run that has ended.
        hook_calls: calls the hooks at the ends of jobs; None where the app has none.
        report_unstarted: tells those who hear of a delivery that is given back before its start,
            which is no event.
    """

    def __init__(
        self,
        *,
        runtime: "Runtime",
        queues: list[Queue],
        concurrency: int,
        prefetch: int,
        link: Link,
        publisher: "Publisher",
        execution: Execution,
        room: Room,
        stopping: asyncio.Event,
        started: Callable[[], object] | None,
        topology: SharedTopology,
        observers: Iterable[Observer],
        stack: AsyncExitStack,
        memory: WorkersMemory = NO_MEMORY,
    ) -> None:
        self.runtime, self.queues, self.link, self.publisher = runtime, queues, link, publisher
        self.concurrency, self.prefetch, self._count = concurrency, prefetch, started
        self._loop, self._clock = asyncio.get_running_loop(), runtime.clock
        self._execution = execution
        self.running: dict[Run, asyncio.Task[None]] = {}
        self.ignoring, self.memory = set[asyncio.Task[None]](), memory
        self.presence = Presence()
        self.intake = Intake(
            queues, concurrency, self._start if started is None else self._start_counted,
            self._wake, self._clock.monotonic, self.presence.certain,
        )  # fmt: skip
        jobs = runtime.registry.jobs.values()
        self.batches = batches_of(jobs, execution, self.intake, self._clock, stopping)
        self._join = None if self.batches is None else self.batches.join
        self.progress = Progress(self.intake, self.running)
        self.quarantine = Quarantine(self._isolate, self.intake, execution)
        stack.push_async_callback(self.quarantine.close)
        self._remembered = Settled(identity_in(runtime.registry.name))
        own = self.intake, self.quarantine, self._remembered.key_of
        self.redeliveries = Redeliveries(queues, self.running, *own)
        self.deferral = Deferral(self.intake.offer, self.redeliveries.offer, self._clock)
        self.overtime = Overtime(runtime, queues, concurrency, prefetch, self.running)
        self._prefetches = prefetches_of(jobs, queues, prefetch)
        around = self._prefetches, link, self.intake, self.deferral, self.quarantine
        self.pausing = Pausing(queues, *around, self._clock)
        self.holds = Holds(link, self.pausing, self._reload)
        threads = execution.outliving
        self.singletons = singletons_of(queues, self.intake, threads, self.pausing.open)
        self.cancelled = CancelledJobs(self.running, self._clock, self._collected)
        self.control, self._topology = self._make_control(stack), topology
        self.subscriptions = self._subscribe(queues)
        furnish(execution.home, runtime, self._nested_requests(), memory)
        self.limits = limits_of(memory.turns, stack)
        self.durable = durable_jobs_of(memory.durable, runtime, stack)
        hooks = runtime.registry.ending_hooks
        self.hook_calls = hook_calls_of(hooks, execution.home, self.intake, concurrency, stack)
        hooked = () if self.hook_calls is None else (self.hook_calls.ended,)
        self._make_executor(stopping, room, (*hooked, *observers), stack)
        self._execute = self._executor.execute
        execution.grace, execution.ignored = runtime.settings.shutdown_timeout, self._ignored

    def _make_control(self, stack: AsyncExitStack) -> Control:
        parts = self.holds, self.publisher.link, self, self.cancelled
        operating = Operating(self.runtime.registry.name, *parts)
        stack.push_async_callback(operating.close)
        told = operating.told, self.holds.interrupted
        return Control(self.link, self.queues, self.running, self._clock, *told)

    def _make_executor(
        self,
        stopping: asyncio.Event,
        room: Room,
        observers: tuple[Observer, ...],
        stack: AsyncExitStack,
    ) -> None:
        """What a delivery goes through once it is started, up to those who are told of its end."""
        runtime, publisher, queues = self.runtime, self.publisher, self.queues
        registry, settings, clock = runtime.registry, runtime.settings, self._clock
        endings = Endings()
        endings.begin()
        announcer = Announcer(runtime, queues)
        announcer.speak_through(publisher.announcements)
        spans = spans_of(runtime, self.link)
        self.settlement = Settlement(
            publisher.publication, publisher.waiting, queues, self._remembered, publisher.restore,
            clock, callbacks_by(publisher, runtime),
        )  # fmt: skip
        self.pipeline = Pipeline(
            runtime, self._execution, stopping, registry.only_jobs(), settings.max_message_size,
            self._remembered, self.control.takes_back, announcer, endings, room,
            None if spans is None else spans.process, self.settlement.accept, self.cancelled,
            self._join, self.limits, self.durable,
        )  # fmt: skip
        self.replying = self._make_replying()
        knows = partial(has_job_for, registry)
        self.parking = Parking(queues, knows, self.link, publisher.publication)
        line = Reporting(arguments=settings.log_arguments, clock=clock).report
        counting = measure(self._metered, runtime, stack)
        seeing = None if spans is None else spans.settled
        watching = [each for each in (seeing, counting) if each is not None]
        ticked = ends_told_to(self.memory.ended)
        self.report = Observers((line, announcer.ended, *watching, *observers), ticked).tell
        self.report_unstarted = Observers((line, *watching, *observers)).tell
        self._executor = Executor(
            pipeline=self.pipeline, endings=endings, replying=self.replying,
            settlement=self.settlement, report=self.report, remembered=self._remembered,
            running=self.running, intake=self.intake, pausing=self.pausing,
            outliving=self._execution.outliving, redeliveries=self.redeliveries,
            limits=self.limits, singletons=self.singletons, durable=self.durable,
        )  # fmt: skip

    def _make_replying(self) -> Answering:
        registry, settings = self.runtime.registry, self.runtime.settings
        own = [declaration.name for declaration in registry.topology.queues]
        compression = compression_of(settings.compress, settings.compress_above)
        return Answering(
            self.publisher.publication, self.pipeline.judge.rejected, own,
            settings.max_message_size, self._clock, compression,
        )  # fmt: skip

    def _nested_requests(self) -> NestedRequests:
        return NestedRequests(
            self.runtime.settings.url,
            [subscription.queue for subscription in self.subscriptions],
            self.concurrency,
            lambda: [run.context for run in list(self.running)],
        )

    def _metered(self, make: "type[Metered]") -> "Metered":
        parts = self.running, self.concurrency, self.subscriptions, self.queues, self.intake
        return make(*parts, self.link, self._execution.outliving.calls)

    def _subscribe(self, queues: list[Queue]) -> list[Subscription]:
        only = self.runtime.registry.only_jobs()
        found = [self._subscription(q, lane, only) for q in queues for lane in lanes_of(q)]
        if self.singletons is not None:
            self.singletons.connect(found)
        return found

    def _subscription(
        self, queue: Queue, lane: Lane, only: Mapping[str, Definition]
    ) -> Subscription:
        return Subscription(
            self.link,
            lane.queue,
            prefetch_of(queue, lane, self._prefetches[queue.name]),
            self.deferral.offer,
            lambda wire: self._topology.ensure(wire, lane.queue),
            self.overtime.arguments,
            self._lost,
            None if self.singletons is None else self.singletons.places.get(queue.name),
            translation_of(self.runtime.registry, queue, lane.queue, only),
        )

    @property
    def _all_written(self) -> bool:
        beside = self.hook_calls, self.limits, self.durable, self.publisher.broadcasts
        return all(each is None or each.idle for each in beside)

    def _collected(self) -> Collection[Run]:
        return () if self.batches is None else self.batches.collected

    @property
    def ready(self) -> bool:
        """Whether every queue is being consumed, or paused on purpose."""
        return all(s.consuming or s.paused for s in self.subscriptions)

    @property
    def condition(self) -> str:
        """How it is: see `amqpjobs.telemetry.health.condition`."""
        parts = self.link, self.publisher, self.subscriptions, self.progress.problem
        return condition(*parts, self.memory.beside)

    @property
    def snapshot(self) -> Snapshot:
        """What it holds now."""
        collected = self._collected()
        return snapshot_of(
            self.subscriptions,
            self.running.keys() - collected if collected else self.running,
            self.intake.all_waiting(),
            (
                *self.deferral.held,
                *self.redeliveries.waiting(),
                *(run.delivery for run in collected),
            ),
            at_rest=self.intake.at_rest and self._all_written,
        )

    async def started(self) -> None:
        """Wait until every queue is consumed."""
        for subscription in self.subscriptions:
            if not subscription.paused:
                await subscription.started()

    async def keep_house(self) -> None:
        """Look after the store, where there is something to look after."""
        if self.memory.housekeeping is not None:
            await self.memory.housekeeping.run()

    async def send_stored(self) -> int:
        """Send what transactions have stored; how much was sent since the start, in all."""
        return await self.memory.send()

    async def hold(self, wire: Wire) -> None:
        """Before anything is consumed: see what operators have paused and cancelled."""
        await self.memory.check()
        await self.holds.first(wire)
        await self._reload()
        self.pausing.rest(self.subscriptions)

    async def _reload(self) -> None:
        """What was cancelled while nothing was heard here."""
        await self.cancelled.load(self.runtime.settings, self.runtime.registry.name)

    async def follow(self) -> None:
        """Follow what operators pause and resume."""
        await self.started()
        await self.holds.run(self.control.ready)

    async def listen(self) -> None:
        """Listen for requests that are cancelled, and for operators."""
        await self.started()  # where the broker allows few channels, consuming goes first
        await self.control.run()

    async def announce(self) -> None:
        """Say that the worker is ready."""
        await self.started()
        notify("READY=1")
        keys = {"concurrency": self.concurrency, "prefetch": self.prefetch}
        log.info("worker is ready", extra={"queues": [q.name for q in self.queues], **keys})

    def job_of(self, task: "asyncio.Task[Any]") -> RunContext | None:
        """The job that runs in a task. Called from another thread, while this one stands still."""
        found = next((r.context for r, own in list(self.running.items()) if own is task), None)
        return self.batches.context_of(task) if found is None and self.batches else found

    def take_waiting(self, *, hurry: bool = True) -> list[Delivery]:
        """All deliveries that were not started and are still this worker's; they wait no more. The
        jobs of batches that were not started are given back in a hurry, else they run now."""
        if self.batches is not None:
            (self.batches.release if hurry else self.batches.flush)()
        waiting = [
            *self.redeliveries.take_waiting(),
            *self.intake.take_waiting(),
            *self.deferral.take_held(),
        ]
        return [delivery for delivery in waiting if not delivery.stale]

    def _start(self, delivery: Delivery, quarantine: Quarantine | None = None) -> None:
        run = Run(delivery, quarantine)
        home = self._execution.home.copy()
        self.running[run] = self._loop.create_task(self._execute(run), context=home)

    def _start_counted(self, delivery: Delivery, quarantine: Quarantine | None = None) -> None:
        self._start(delivery, quarantine)
        if self._count is not None:
            self._count()

    def _ignored(self, definition: Definition, context: RunContext) -> None:
        """A handler goes on after it was cancelled at its timeout, and its grace: the run is over
        without it, and another job may start in its place."""
        log.error("job ignores its timeout, slot freed", extra=context.log_keys())
        error = over_time(context.timeout_of(definition.timeout) or 0.0)
        if self.batches is not None and (late := self.batches.ends(context, error)):
            self._ignore(late)
            return
        run = next((r for r in self.running if r.runs(context)), None)
        if run is not None and not run.delivery.settled:
            self.lingers(run, self.running[run])
            ended = self._executor.take_over(run)
            if run.quarantine is not None:
                run.quarantine.give_up()
            self._ignore(self.running.pop(run))
            home = self._execution.home.copy()
            self.running[ended] = self._loop.create_task(
                self._executor.end(ended, error), context=home
            )

    def lingers(self, run: Run, task: asyncio.Task[None]) -> None:
        """A run is over, and its handler goes on."""
        if self.singletons is not None:
            self.singletons.linger(run.delivery.queue, task)

    def _ignore(self, task: asyncio.Task[None]) -> None:
        self.ignoring.add(task)
        task.add_done_callback(self.ignoring.discard)

    def _isolate(self, delivery: Delivery) -> None:
        self._start_counted(delivery, self.quarantine)

    def _wake(self, queue: str, seconds: float) -> None:
        # Not in the context of the job whose end has shut the gate.
        self._execution.home.copy().run(self._clock.call_later, seconds, self.pausing.open, queue)

    def _lost(self, queue: str, reason: str) -> None:
        self.redeliveries.survived(
            (
                *self.intake.all_waiting(),
                *self.deferral.held,
                *self.redeliveries.waiting(),
                *(run.delivery for run in self.running),
            )
        )
        self.overtime.lost(queue, reason)
