"""A worker from start to stop: connects, consumes, and on a signal requeues unfinished jobs.

Changes when starting or stopping does.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.background import first_error
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.shared_topology import SharedTopology, topology_shared_by
from amqpjobs.jobs.durations import Seconds, seconds_above_zero
from amqpjobs.state.working import memory_for_worker
from amqpjobs.telemetry.health.heartbeat import STARTING, STOPPING, Liveness, notify
from amqpjobs.telemetry.health.heartbeat_file import is_ok
from amqpjobs.telemetry.log_handlers import log_options
from amqpjobs.telemetry.log_stream import is_unread
from amqpjobs.telemetry.logs import configure_logs_again
from amqpjobs.worker.blocked_loop import BlockedLoop
from amqpjobs.worker.consuming import Consuming
from amqpjobs.worker.duties import Duties
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.hooks import hooks_run
from amqpjobs.worker.recycling import Limits, Recycling
from amqpjobs.worker.reporting import Observer
from amqpjobs.worker.room import Room
from amqpjobs.worker.shutdown import drain, finish, interrupt
from amqpjobs.worker.snapshot import Snapshot
from amqpjobs.worker.unread_log import UNREAD, hold_while_unread
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
        prefetch: deliveries held of each queue; None for what `Settings.prefetch_for` says.
        observers: called with each run that has ended and its outcome, last of all who are told.
            What they raise is logged, and costs the job nothing.
        until_empty: end when the queues are empty and nothing is left to do here. Delayed jobs, and
            retries that are still to come, are not waited for.
        max_jobs: end after so many have started, or up to a tenth fewer; None for the setting, as
            of the next two.
        max_memory: bytes; end when more of the process's memory is resident.
        max_age: seconds, or a timedelta; end when it has run for so long, or up to a tenth less.

    Attributes:
        recycled: why it ended for another worker to take its place, by one of the three limits;
            None if it did not.

    Raises:
        ConfigurationError: a queue that the app does not have, or a limit that it cannot keep.

    Example:
        >>> async with app.testing():
        ...     handle = await build_report.later(12)
        ...     await Worker(app, until_empty=True).run()
        ...     await handle.result()
        'report 12: 31 orders'
    """

    def __init__(
        self,
        app: "HasClient",
        queues: Iterable[str] = (),
        *,
        concurrency: int | None = None,
        prefetch: int | None = None,
        observers: Iterable[Observer] = (),
        until_empty: bool = False,
        max_jobs: int | None = None,
        max_memory: int | None = None,
        max_age: Seconds | None = None,
    ) -> None:
        self._client = app.client
        runtime = self._runtime = app.client.runtime
        registry, settings = runtime.registry, runtime.settings
        registry.check()
        self._loop = asyncio.get_running_loop()
        self._queues = registry.to_consume(queues)
        self.concurrency = concurrency or settings.concurrency
        self.prefetch = prefetch or settings.prefetch_for(self.concurrency)
        self._observers = tuple(observers)
        self._budget = settings.shutdown_timeout
        self._ending, self._stopping, self._hurry = (asyncio.Event() for _ in range(3))
        self._until_empty = until_empty
        self.recycled: str | None = None
        age = None if max_age is None else seconds_above_zero("max_age", max_age)
        limits = Limits.of(settings, max_jobs, max_memory, age)
        self._recycling = Recycling(limits, self._recycle)
        self._stopped_at = 0.0
        self._starting: asyncio.Timeout | None = None
        self._last_resort: asyncio.TimerHandle | None = None
        self._link = Link(settings, "consume", f"concurrency={self.concurrency}")
        self._execution = Execution(self.concurrency, log_options(settings))
        self._room = Room(self.stop, self._execution.outliving.obstacle)
        self._execution.outliving.recycle = self._recycle
        self._holding = False
        self._consuming: Consuming | None = None
        self._connected, self._over = asyncio.Event(), asyncio.Event()
        self._failure: Exception | None = None

    def __repr__(self) -> str:
        # In quarantine, too, which is beside the intake's slots.
        now = self.snapshot()
        return (
            f"<Worker: {now.running} running, {now.waiting} waiting, "
            f"{'ready' if self.ready else 'not ready'}>"
        )

    @property
    def ready(self) -> bool:
        """Whether every queue is being consumed, or paused on purpose, and the worker was not told
        to stop."""
        return (
            not self._ending.is_set()
            and self._room.state is None
            and self._consuming is not None
            and self._consuming.ready
        )

    @property
    def state(self) -> str:
        """How it is, for probes: see `Liveness`."""
        if self._ending.is_set():
            return STOPPING
        found = STARTING if self._consuming is None else self._consuming.condition
        if (is_ok(found) or found == STARTING) and (lacking := self._room.state) is not None:
            return lacking
        if is_ok(found) and is_unread():
            return UNREAD
        return (self._execution.outliving.state or found) if is_ok(found) else found

    @property
    def stuck(self) -> bool:
        """Whether a thread or a handler that could not be ended still runs: it would keep the
        process alive."""
        parts = self._consuming
        tasks = () if parts is None else (*parts.running.values(), *parts.ignoring)
        return self._execution.abandoned > 0 or any(not task.done() for task in tasks)

    def snapshot(self) -> Snapshot:
        """What it runs and holds now, for each AMQP queue; nothing until it is connected."""
        return Snapshot() if self._consuming is None else self._consuming.snapshot

    def hold(self) -> None:
        """Start no more jobs until `resume`. What runs goes on, and deliveries wait."""
        self._holding = True
        if self._consuming is not None:
            self._consuming.intake.pause("held")

    def resume(self) -> None:
        """Start jobs again after `hold`."""
        self._holding = False
        if self._consuming is not None:
            self._consuming.intake.resume("held")

    def stop(self) -> None:
        """Stop within the budget; called again, cancel what runs now. Safe in a signal handler of
        the event loop."""
        if self._stopping.is_set():
            self._hurry.set()
            return
        self._stopped_at = self._loop.time()
        self._ending.set()
        self._stopping.set()
        if self._starting is not None:
            self._starting.reschedule(self._stopped_at)

    def _recycle(self, reason: str) -> None:
        """End, when what runs has ended: `stop` is for what has less time. Nothing more starts."""
        if not self._ending.is_set():
            self.recycled = reason
            log.info("worker ends, another may take over", extra={"reason": reason})
            self._ending.set()
            if self._consuming is not None:
                self._consuming.intake.close()

    async def started(self) -> None:
        """Wait until every queue is consumed, or the worker has stopped.

        Raises:
            AmqpJobsError: what `run` has raised, if it failed before that.
        """
        ready, over = (asyncio.ensure_future(w) for w in (self._consumed(), self._over.wait()))
        try:
            await asyncio.wait((ready, over), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
            over.cancel()
        if self._failure is not None and not ready.done():
            raise self._failure

    async def _consumed(self) -> None:
        await self._connected.wait()
        if self._consuming is not None:
            await self._consuming.started()

    async def run(self) -> None:
        """Work until `stop` is called, then give back what is not done and return.

        Raises:
            BrokerUnavailable: no connection at start.
            TopologyMismatch: a queue is missing or different.
            NotPermitted: the broker's user lacks a permission.
            NoRoom: jobs found no room in this process, for too long.
        """
        configure_logs_again()
        try:
            await self._run()
        except Exception as error:
            self._failure = error
            raise
        finally:
            self._over.set()

    async def _run(self) -> None:
        with first_error():
            async with AsyncExitStack() as stack:
                stack.callback(self._cancel_last_resort)
                stack.push_async_callback(self._leave)
                stack.push_async_callback(self._execution.close)
                parts = await self._begin(stack)
                if parts is not None:
                    await self._work_whole(parts)
        if self._room.failure is not None:
            raise self._room.failure

    async def _begin(self, stack: AsyncExitStack) -> Consuming | None:
        """Connect and declare; None if told to stop meanwhile, whatever the broker does."""
        if self._stopping.is_set():
            return None
        registry = self._runtime.registry
        declare, bindings = self._runtime.settings.declare_topology, registry.routes.bindings
        topology = topology_shared_by(self._queues, declare=declare, bindings=bindings)
        try:
            async with asyncio.timeout(None) as self._starting:
                wire, publisher = await self._connect(stack, topology)
                await stack.enter_async_context(hooks_run(registry.worker_hooks, self._left))
                configure_logs_again()
                self._execution.home = copy_context()  # each job starts in a copy: nobody's values
        except TimeoutError:
            if not self._stopping.is_set():
                raise
            return None
        finally:
            self._starting = None
        parts = self._consuming = Consuming(
            runtime=self._runtime,
            queues=self._queues,
            concurrency=self.concurrency,
            prefetch=self.prefetch,
            link=self._link,
            publisher=publisher,
            execution=self._execution,
            room=self._room,
            stopping=self._ending,
            started=self._recycling.started,
            topology=topology,
            observers=self._observers,
            stack=stack,
            memory=memory_for_worker(self._client),
        )
        parts.overtime.warn(wire.profile)
        await self._hold(parts, wire)
        if self._holding:
            parts.intake.pause("held")
        self._connected.set()
        return parts

    async def _hold(self, parts: Consuming, wire: Wire) -> None:
        """See what operators have paused, unless told to stop meanwhile."""
        if self._stopping.is_set():
            return
        try:
            async with asyncio.timeout(None) as self._starting:
                await parts.hold(wire)
        except TimeoutError:
            if not self._stopping.is_set():
                raise
        finally:
            self._starting = None

    async def _connect(
        self, stack: AsyncExitStack, topology: SharedTopology
    ) -> "tuple[Wire, Publisher]":
        """Both connections, with all queues there."""
        begun = self._loop.time()
        wire = await self._link.connect_within(self._runtime.settings.wait)
        await stack.enter_async_context(self._client.lifespan())
        publisher = await self._client.publisher()
        if publisher.declared_at >= begun:
            topology.is_there(wire)  # all queues of the app are, by the same user
        else:
            await topology.ensure_all(wire)
        await topology.require_singles(wire)
        return wire, publisher

    async def _work_whole(self, parts: Consuming) -> None:
        try:
            await self._work(parts)
        except BaseException:
            # What runs is interrupted, which is no failure of it, and must not go on unseen.
            end = self._loop.time() + self._budget / 8
            await interrupt(parts.running, parts.report, end, parts.lingers)
            raise

    def _left(self) -> float:
        """Seconds of the budget for stopping."""
        passed = self._loop.time() - self._stopped_at if self._stopped_at else 0.0
        return self._budget - passed

    async def _work(self, parts: Consuming) -> None:
        blocked = BlockedLoop(self._runtime.settings.blocked_after, parts.job_of)
        liveness = Liveness(self._runtime.settings.heartbeat_file, lambda: self.state)
        subscriptions, settle = parts.subscriptions, parts.settlement.settle
        watched, go_on = (self._link, subscriptions), parts.intake.go_on
        async with asyncio.TaskGroup() as group:
            duties = Duties(group, self.stop, self._ending.is_set)
            begin = duties.begin
            pausing = begin(lambda: parts.pausing.run(subscriptions, settle), "amqpjobs pausing")
            parking = begin(parts.parking.run, "amqpjobs parking", returns=True)
            tasks = [
                parking,
                begin(self._link.run, "amqpjobs consuming link"),
                begin(lambda: watch(*watched, self._ending), "amqpjobs watchdog"),
                begin(lambda: parts.presence.run(subscriptions, go_on), "amqpjobs presence"),
                begin(liveness.run, "amqpjobs liveness"),
                begin(blocked.run, "amqpjobs blocked loop", returns=True),
                begin(parts.listen, "amqpjobs control", returns=True),
                begin(parts.follow, "amqpjobs holds"),
                begin(lambda: hold_while_unread(parts.intake), "amqpjobs log", returns=True),
                *(begin(s.run, f"amqpjobs consumer {s.queue}") for s in subscriptions),
                begin(parts.announce, "amqpjobs announcement", returns=True),
                begin(parts.keep_house, "amqpjobs housekeeping", returns=True),
            ]
            if self._recycling.watches:
                tasks.append(begin(self._recycling.run, "amqpjobs recycling", returns=True))
            if self._until_empty:
                from amqpjobs.worker.until_empty import end_when_empty

                empty = partial(end_when_empty, parts, parking, self.stop)
                tasks.append(begin(empty, "amqpjobs until empty", returns=True))
            await self._ending.wait()
            if not self._stopping.is_set():
                pausing.cancel()
                await finish(parts, self._stopping)
                if not self._stopping.is_set():
                    self.stop()
            await self._drain(parts, pausing)
            for task in tasks:
                task.cancel()
        duties.check()

    async def _leave(self) -> None:
        """Close the connection, but not while a job of a singleton queue goes on: another worker
        would be given the next one. The end of the process, or of that job, closes it."""
        singletons = None if self._consuming is None else self._consuming.singletons
        if singletons is None or not singletons.taken:
            await self._link.close()
        else:
            singletons.when_free(self._link.close)

    async def _drain(self, parts: Consuming, pausing: asyncio.Task[None]) -> None:
        """Stop within one budget, counted from the signal."""
        end = self._stopped_at + self._budget
        margin = min(1.0, self._budget / 8)
        # A broker that does not answer must not hold the closing of connections beyond the budget.
        self._last_resort = self._loop.call_at(end - margin / 4, _abort, parts)
        notify("STOPPING=1")
        log.info("stopping", extra={"running": len(parts.running), "budget_s": self._budget})
        pausing.cancel()
        await drain(parts, self._hurry, end, margin)
        log.info("stopped", extra={"took_s": round(self._loop.time() - self._stopped_at, 3)})

    def _cancel_last_resort(self) -> None:
        if self._last_resort is not None:
            self._last_resort.cancel()


def _abort(parts: Consuming) -> None:
    """Drop the connections: what was written has had its time to arrive."""
    kept = parts.singletons is not None and parts.singletons.taken
    for link in (parts.publisher.link, *(() if kept else (parts.link,))):
        if link.wire is not None:
            link.wire.protocol.abort()
