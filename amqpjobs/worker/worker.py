"""A worker from start to stop: connects, consumes, and on a signal gives everything back in time.

Changes when starting or stopping does.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import ensure
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.outcome import Done, Snoozed
from amqpjobs.jobs.queue.queue import Lane, Queue
from amqpjobs.jobs.queue.topology import topology_of
from amqpjobs.telemetry.health.condition import condition
from amqpjobs.telemetry.health.heartbeat import OK, STARTING, STOPPING, Liveness, notify
from amqpjobs.worker.absence import Presence
from amqpjobs.worker.blocked_loop import BlockedLoop
from amqpjobs.worker.cancellation import Control
from amqpjobs.worker.consumer_timeout import Overtime
from amqpjobs.worker.deferral import Deferral
from amqpjobs.worker.duties import Duties
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.events import Announcer
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.flow.token_bucket import prefetch_of
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.observing import measure, trace
from amqpjobs.worker.parking import Parking
from amqpjobs.worker.pausing import Pausing
from amqpjobs.worker.pipeline import Pipeline
from amqpjobs.worker.quarantine import Quarantine
from amqpjobs.worker.recently_settled import LONG, Settled, identity_in
from amqpjobs.worker.redeliveries import Redeliveries
from amqpjobs.worker.replying import Answering
from amqpjobs.worker.reporting import Reporting
from amqpjobs.worker.room import Room
from amqpjobs.worker.run import Run
from amqpjobs.worker.settlement import Settlement
from amqpjobs.worker.shutdown import give_back, interrupt, wait_for
from amqpjobs.worker.stalled import Progress
from amqpjobs.worker.watchdog import watch

if TYPE_CHECKING:
    from amqpjobs.client.client import HasClient
    from amqpjobs.client.publisher import Publisher

log = logging.getLogger("amqpjobs.worker")


class Worker:
    """Consumes queues and runs their jobs until told to stop.

    Args:
        app: whose jobs.
        queues: names of the app's queues; empty for all.
        concurrency: jobs at once; None for the setting.
        prefetch: deliveries held of each queue; None for the setting, or twice the concurrency.

    Raises:
        ConfigurationError: a queue that the app does not have.
    """

    def __init__(
        self,
        app: "HasClient",
        queues: Iterable[str] = (),
        *,
        concurrency: int | None = None,
        prefetch: int | None = None,
    ) -> None:
        self._client = app.client
        runtime = self._runtime = app.client.runtime
        registry, settings = runtime.registry, runtime.settings
        registry.check()
        self._loop = asyncio.get_running_loop()
        chosen = self._queues = registry.to_consume(queues)
        self.concurrency = concurrency or settings.concurrency
        self.prefetch = prefetch or settings.prefetch or 2 * self.concurrency
        self._budget = settings.shutdown_timeout
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()
        self._stopped_at = 0.0
        self._starting: asyncio.Timeout | None = None
        self._clock = clock = runtime.clock
        self._link = Link(settings, "consume")
        self._endings = Endings()
        self._execution = Execution(self.concurrency)
        self._room = Room(self.stop, self._execution.outliving.obstacle)
        self._presence = Presence()
        self._running: dict[Run, asyncio.Task[None]] = {}
        self._intake = Intake(
            chosen, self.concurrency, self._start, self._wake, clock.monotonic,
            self._presence.certain,
        )  # fmt: skip
        self._progress = Progress(self._intake, self._running)
        self._quarantine = Quarantine(self._isolate, self._intake, self._execution)
        self._remembered = Settled(identity_in(registry.name))
        own = self._intake, self._quarantine, self._remembered.key_of
        self._redeliveries = Redeliveries(chosen, self._running, *own)
        self._deferral = Deferral(self._intake.offer, self._redeliveries.offer, clock)
        self._overtime = Overtime(runtime, chosen, self.concurrency, self.prefetch, self._running)
        around = self._link, self._intake, self._deferral, self._quarantine
        self._pausing = Pausing(chosen, self.prefetch, *around, clock)
        self._reporting = Reporting(arguments=settings.log_arguments, clock=clock)
        self._subscriptions = [self._subscription(q, lane) for q in chosen for lane in q.lanes]
        self._control = Control(self._link, chosen, self._running, clock)
        self._announcer = Announcer(runtime, chosen)
        self._pipeline = Pipeline(
            runtime, self._execution, self._stopping, registry.only_jobs(),
            settings.max_message_size, self._remembered, self._control.takes_back,
            self._announcer, self._endings, self._room,
        )  # fmt: skip
        self._settlement: Settlement | None = None
        self._answering: Answering | None = None
        self._publisher: Publisher | None = None
        self._last_resort: asyncio.TimerHandle | None = None

    def _subscription(self, queue: Queue, lane: Lane) -> Subscription:
        return Subscription(
            self._link,
            lane.queue,
            prefetch_of(queue, lane, self.prefetch),
            self._deferral.offer,
            self._ensure,
            self._overtime.arguments,
            self._lost,
        )

    def __repr__(self) -> str:
        # In quarantine, too, which is beside the intake's slots.
        return (
            f"<Worker: {len(self._running)} running, {self._intake.waiting} waiting, "
            f"{'ready' if self.ready else 'not ready'}>"
        )

    @property
    def ready(self) -> bool:
        """Whether every queue is being consumed, or paused on purpose, and the worker was not told
        to stop."""
        return (
            not self._stopping.is_set()
            and self._room.state is None
            and all(s.consuming or s.paused for s in self._subscriptions)
        )

    @property
    def state(self) -> str:
        """How it is, for probes: see `Liveness`."""
        if self._stopping.is_set():
            return STOPPING
        found = condition(self._link, self._publisher, self._subscriptions, self._progress.problem)
        if found in (OK, STARTING) and (lacking := self._room.state) is not None:
            return lacking
        return (self._execution.outliving.state or OK) if found == OK else found

    @property
    def stuck(self) -> bool:
        """Whether a thread that could not be ended still runs: it would keep the process alive."""
        return self._execution.abandoned > 0 or any(
            not task.done() for task in self._running.values()
        )

    def stop(self) -> None:
        """Stop within the budget; called again, cancel what runs now. Safe in a signal handler of
        the event loop."""
        if self._stopping.is_set():
            self._hurry.set()
            return
        self._stopped_at = self._loop.time()
        self._stopping.set()
        if self._starting is not None:
            self._starting.reschedule(self._stopped_at)

    async def started(self) -> None:
        """Wait until every queue is consumed."""
        for subscription in self._subscriptions:
            await subscription.started()

    async def run(self) -> None:
        """Work until `stop` is called, then give back what is not done and return.

        Raises:
            BrokerUnavailable: no connection at start.
            TopologyMismatch: a queue is missing or different.
            NoRoom: jobs found no room in this process, for too long.
        """
        self._endings.begin()
        try:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._link.close)
                stack.push_async_callback(self._execution.close)
                stack.push_async_callback(self._quarantine.close)
                parking = await self._begin(stack)
                if parking is not None:
                    await self._work_whole(parking)
        finally:
            if self._last_resort is not None:
                self._last_resort.cancel()
        if self._room.failure is not None:
            raise self._room.failure

    async def _work_whole(self, parking: Parking) -> None:
        try:
            await self._work(parking)
        except BaseException:
            # What runs is interrupted, which is no failure of it, and must not go on unseen.
            end = self._loop.time() + self._budget / 8
            await interrupt(self._running, self._reporting, self._announcer, end)
            raise

    async def _begin(self, stack: AsyncExitStack) -> Parking | None:
        """Connect and declare; None if told to stop meanwhile, whatever the broker does."""
        if self._stopping.is_set():
            return None
        try:
            async with asyncio.timeout(None) as self._starting:
                wire = await self._link.connect()
                await stack.enter_async_context(self._client.lifespan())
                self._publisher = await self._client.publisher()
                await self._ensure(wire)
                self._execution.home = copy_context()  # each job starts in a copy: nobody's values
                self._overtime.warn(wire.profile)
        except TimeoutError:
            if not self._stopping.is_set():
                raise
            return None
        finally:
            self._starting = None
        self._announcer.speak_through(self._publisher.announcements)
        trace(self._runtime, self._publisher, self._pipeline, self._reporting)
        measure(
            self._runtime, stack, self._reporting,
            self._running, self.concurrency, self._subscriptions, self._queues, self._intake,
            self._link,
        )  # fmt: skip
        publication = self._publisher.publication
        self._settlement = Settlement(
            publication,
            self._publisher.waiting,
            self._queues,
            self._remembered,
            self._publisher.restore,
            self._clock,
        )
        own = [declaration.name for declaration in self._runtime.registry.topology.queues]
        largest = self._runtime.settings.max_message_size
        self._answering = Answering(publication, self._pipeline.rejected, own, largest, self._clock)
        return Parking(self._queues, self._pipeline.knows, self._link, publication)

    async def _work(self, parking: Parking) -> None:
        blocked = BlockedLoop(self._runtime.settings.blocked_after, self._job_of)
        liveness = Liveness(self._runtime.settings.heartbeat_file, lambda: self.state)
        assert self._settlement is not None  # noqa: S101 - parking was made with it
        settle = self._settlement.settle
        subscriptions, watched = self._subscriptions, (self._link, self._subscriptions)
        async with asyncio.TaskGroup() as group:
            duties = Duties(group, self.stop, self._stopping.is_set)
            begin, go_on = duties.begin, self._intake.go_on
            pausing = begin(lambda: self._pausing.run(subscriptions, settle), "amqpjobs pausing")
            tasks = [
                begin(self._link.run, "amqpjobs consuming link"),
                begin(lambda: watch(*watched, self._stopping), "amqpjobs watchdog"),
                begin(lambda: self._presence.run(subscriptions, go_on), "amqpjobs presence"),
                begin(liveness.run, "amqpjobs liveness"),
                begin(blocked.run, "amqpjobs blocked loop", returns=True),
                begin(parking.run, "amqpjobs parking", returns=True),
                begin(self._listen, "amqpjobs control", returns=True),
                *(begin(s.run, f"amqpjobs consumer {s.queue}") for s in subscriptions),
                begin(self._announce, "amqpjobs announcement", returns=True),
            ]
            await self._stopping.wait()
            await self._drain(pausing)
            for task in tasks:
                task.cancel()
        duties.check()

    async def _listen(self) -> None:
        await self.started()  # where the broker allows few channels, consuming goes first
        await self._control.run()

    async def _announce(self) -> None:
        await self.started()
        notify("READY=1")
        keys = {"concurrency": self.concurrency, "prefetch": self.prefetch}
        log.info("worker is ready", extra={"queues": [q.name for q in self._queues], **keys})

    async def _ensure(self, wire: Wire) -> None:
        declare = self._runtime.settings.declare_topology
        await ensure(wire, topology_of(self._queues), declare=declare)

    def _lost(self, queue: str, reason: str) -> None:
        self._redeliveries.survived(
            (
                *self._intake.all_waiting(),
                *self._deferral.held,
                *self._redeliveries.waiting(),
                *(run.delivery for run in self._running),
            )
        )
        self._overtime.lost(queue, reason)

    def _wake(self, queue: str, seconds: float) -> None:
        # Not in the context of the job whose end has shut the gate.
        self._execution.home.copy().run(self._clock.call_later, seconds, self._pausing.open, queue)

    def _start(self, delivery: Delivery, quarantine: Quarantine | None = None) -> None:
        run = Run(delivery, quarantine)
        home = self._execution.home.copy()
        self._running[run] = self._loop.create_task(self._run(run), context=home)

    def _isolate(self, delivery: Delivery) -> None:
        self._start(delivery, self._quarantine)

    async def _run(self, run: Run) -> None:
        # One task for each job, and no callback at its end: both cost as much as a no-op handler.
        try:
            outcome = await self._pipeline.outcome_of(run)
            run.ended = time.monotonic()
            if self._intake.gated or isinstance(outcome, Snoozed):
                self._pausing.ended(run.delivery, outcome)
            if run.delivery.settled:
                return  # given back by force while the handler would not end
            if run.asked is not None:
                await self._endings.calm(run)
                assert self._answering is not None  # noqa: S101 - as the settlement
                outcome = await self._answering.answer(run, outcome)
            assert self._settlement is not None  # noqa: S101 - set before anything is consumed
            waiting = self._settlement.settle(run.delivery, outcome, run.context)
            if waiting is not None:
                outcome = await self._endings.settled(run, waiting)
            elif isinstance(outcome, Done) and time.monotonic() - run.started > LONG:
                self._remembered.acked(run.delivery)
            self._reporting.report(run, outcome)
            self._announcer.ended(run, outcome)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt would end the event loop
            await self._of_bug(run, error)
        finally:
            self._over(run)

    def _over(self, run: Run) -> None:
        if not run.delivery.settled:
            run.delivery.release()
        del self._running[run]
        if self._intake.gated:
            self._pausing.ended(run.delivery, None)
        free = (self._intake if run.quarantine is None else run.quarantine).finished
        outliving = self._execution.outliving
        if not outliving.calls or not outliving.keep(run.context, free):
            free()
        if self._redeliveries.held:
            self._redeliveries.ended(run)

    def _job_of(self, task: "asyncio.Task[Any]") -> Context | None:
        # Called from another thread, while this one stands still.
        return next((r.context for r, own in list(self._running.items()) if own is task), None)

    async def _of_bug(self, run: Run, error: BaseException) -> None:
        assert self._settlement is not None  # noqa: S101 - set before anything is consumed
        settle = self._settlement.settle
        outcome = await self._endings.of_bug(run, error, self._pipeline.failed_by_us, settle)
        if outcome is not None:
            self._reporting.report(run, outcome)
            self._announcer.ended(run, outcome)

    async def _drain(self, pausing: asyncio.Task[None]) -> None:
        """Stop as the README's contract says. One budget, counted from the signal."""
        end = self._stopped_at + self._budget
        margin = min(1.0, self._budget / 8)
        # A broker that does not answer must not hold the goodbyes beyond the budget.
        self._last_resort = self._loop.call_at(end - margin / 4, self._leave)
        notify("STOPPING=1")
        log.info("stopping", extra={"running": len(self._running), "budget_s": self._budget})
        self._intake.close()
        pausing.cancel()
        await asyncio.gather(*(s.cancel() for s in self._subscriptions))
        waiting = [
            *self._redeliveries.take_waiting(),
            *self._intake.take_waiting(),
            *self._deferral.take_held(),
        ]
        waiting = [delivery for delivery in waiting if not delivery.stale]
        assert self._settlement is not None  # noqa: S101 - set before anything is consumed
        self._settlement.leave()
        await give_back(waiting, self._settlement, self._reporting, end - margin)
        await wait_for(self._running, self._hurry, end - margin)
        await interrupt(self._running, self._reporting, self._announcer, end - margin / 2)
        await asyncio.gather(*(s.close() for s in self._subscriptions))
        log.info("stopped", extra={"took_s": round(self._loop.time() - self._stopped_at, 3)})

    def _leave(self) -> None:
        """Drop the connections: what was written has had its time to arrive."""
        for link in (self._link, self._publisher.link if self._publisher else None):
            if link is not None and link.wire is not None:
                link.wire.protocol.abort()
