"""The parts of a worker that consume, made in one place when its connection is there.

Changes when a worker gets another part, or a part another neighbour.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.queue.queue import Lane, Queue
from amqpjobs.telemetry.health.condition import condition
from amqpjobs.telemetry.health.heartbeat import notify
from amqpjobs.worker.absence import Presence
from amqpjobs.worker.cancellation import Control
from amqpjobs.worker.consumer_timeout import Overtime
from amqpjobs.worker.deferral import Deferral
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.events import Announcer
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.executor import Executor
from amqpjobs.worker.flow.token_bucket import prefetch_of
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.observing import measure, spans_of
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
from amqpjobs.worker.snapshot import Snapshot, snapshot_of
from amqpjobs.worker.stalled import Progress

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
        ensure: declares the queues, or sees whether they are there.
        observers: told of each end after the log line, events, spans and metrics.
        stack: left when the worker has stopped.

    Attributes:
        running: the runs under way, in quarantine too, with their tasks.
        report: tells all observers of a run that has ended.
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
        ensure: Callable[[Wire], Awaitable[None]],
        observers: Iterable[Observer],
        stack: AsyncExitStack,
    ) -> None:
        self.runtime, self.queues, self.link, self.publisher = runtime, queues, link, publisher
        self.concurrency, self.prefetch = concurrency, prefetch
        self._loop, self._clock = asyncio.get_running_loop(), runtime.clock
        self._execution = execution
        self.running: dict[Run, asyncio.Task[None]] = {}
        self.presence = Presence()
        self.intake = Intake(
            queues, concurrency, self._start, self._wake, self._clock.monotonic,
            self.presence.certain,
        )  # fmt: skip
        self.progress = Progress(self.intake, self.running)
        self.quarantine = Quarantine(self._isolate, self.intake, execution)
        stack.push_async_callback(self.quarantine.close)
        self._remembered = Settled(identity_in(runtime.registry.name))
        own = self.intake, self.quarantine, self._remembered.key_of
        self.redeliveries = Redeliveries(queues, self.running, *own)
        self.deferral = Deferral(self.intake.offer, self.redeliveries.offer, self._clock)
        self.overtime = Overtime(runtime, queues, concurrency, prefetch, self.running)
        around = link, self.intake, self.deferral, self.quarantine
        self.pausing = Pausing(queues, prefetch, *around, self._clock)
        self.control = Control(link, queues, self.running, self._clock)
        self._ensure = ensure
        self.subscriptions = [self._subscription(q, lane) for q in queues for lane in q.lanes]
        self._make_executor(stopping, room, tuple(observers), stack)

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
        publication = publisher.publication
        endings = Endings()
        endings.begin()
        announcer = Announcer(runtime, queues)
        announcer.speak_through(publisher.announcements)
        spans = spans_of(runtime, publisher)
        self.pipeline = Pipeline(
            runtime, self._execution, stopping, registry.only_jobs(), settings.max_message_size,
            self._remembered, self.control.takes_back, announcer, endings, room,
            None if spans is None else spans.process,
        )  # fmt: skip
        self.settlement = Settlement(
            publication, publisher.waiting, queues, self._remembered, publisher.restore, clock
        )
        own = [declaration.name for declaration in registry.topology.queues]
        largest = settings.max_message_size
        self.replying = Answering(publication, self.pipeline.rejected, own, largest, clock)
        self.parking = Parking(queues, self.pipeline.knows, self.link, publication)
        line = Reporting(arguments=settings.log_arguments, clock=clock).report
        counting = measure(self._metered, runtime, stack)
        watching: list[Observer] = [] if spans is None else [spans.settled]
        if counting is not None:
            watching.append(counting)
        self.report = Observers((line, announcer.ended, *watching, *observers)).tell
        self.report_unstarted = Observers((line, *watching, *observers)).tell
        self._execute = Executor(
            pipeline=self.pipeline,
            endings=endings,
            replying=self.replying,
            settlement=self.settlement,
            report=self.report,
            remembered=self._remembered,
            running=self.running,
            intake=self.intake,
            pausing=self.pausing,
            outliving=self._execution.outliving,
            redeliveries=self.redeliveries,
        ).execute

    def _metered(self, make: "type[Metered]") -> "Metered":
        return make(
            self.running, self.concurrency, self.subscriptions, self.queues, self.intake, self.link
        )

    def _subscription(self, queue: Queue, lane: Lane) -> Subscription:
        return Subscription(
            self.link,
            lane.queue,
            prefetch_of(queue, lane, self.prefetch),
            self.deferral.offer,
            self._ensure,
            self.overtime.arguments,
            self._lost,
        )

    @property
    def ready(self) -> bool:
        """Whether every queue is being consumed, or paused on purpose."""
        return all(s.consuming or s.paused for s in self.subscriptions)

    @property
    def condition(self) -> str:
        """How it is: see `amqpjobs.telemetry.health.condition`."""
        return condition(self.link, self.publisher, self.subscriptions, self.progress.problem)

    @property
    def snapshot(self) -> Snapshot:
        """What it holds now."""
        return snapshot_of(
            self.subscriptions,
            self.running,
            self.intake.all_waiting(),
            (*self.deferral.held, *self.redeliveries.waiting()),
            at_rest=self.intake.at_rest,
        )

    async def started(self) -> None:
        """Wait until every queue is consumed."""
        for subscription in self.subscriptions:
            await subscription.started()

    async def listen(self) -> None:
        """Listen for requests that are cancelled."""
        await self.started()  # where the broker allows few channels, consuming goes first
        await self.control.run()

    async def announce(self) -> None:
        """Say that the worker is ready."""
        await self.started()
        notify("READY=1")
        keys = {"concurrency": self.concurrency, "prefetch": self.prefetch}
        log.info("worker is ready", extra={"queues": [q.name for q in self.queues], **keys})

    def job_of(self, task: "asyncio.Task[Any]") -> Context | None:
        """The job that runs in a task. Called from another thread, while this one stands still."""
        return next((r.context for r, own in list(self.running.items()) if own is task), None)

    def take_waiting(self) -> list[Delivery]:
        """All deliveries that were not started and are still this worker's; they wait no more."""
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

    def _isolate(self, delivery: Delivery) -> None:
        self._start(delivery, self.quarantine)

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
