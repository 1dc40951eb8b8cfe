"""A worker from start to stop: connects, consumes, and on a signal gives everything back in time.

Changes when starting or stopping does.
"""

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from contextvars import copy_context
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.background import first_error
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import ensure
from amqpjobs.jobs.queue.topology import topology_of
from amqpjobs.telemetry.health.heartbeat import OK, STARTING, STOPPING, Liveness, notify
from amqpjobs.worker.blocked_loop import BlockedLoop
from amqpjobs.worker.consuming import Consuming
from amqpjobs.worker.duties import Duties
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.hooks import hooks_run
from amqpjobs.worker.reporting import Observer
from amqpjobs.worker.room import Room
from amqpjobs.worker.shutdown import give_back, interrupt, wait_for
from amqpjobs.worker.snapshot import Snapshot
from amqpjobs.worker.watchdog import watch

if TYPE_CHECKING:
    from amqpjobs.client.client import HasClient

log = logging.getLogger("amqpjobs.worker")


class Worker:
    """Consumes queues and runs their jobs until told to stop.

    Args:
        app: whose jobs.
        queues: names of the app's queues; empty for all.
        concurrency: jobs at once; None for the setting.
        prefetch: deliveries held of each queue; None for the setting, or twice the concurrency.
        observers: called with each run that has ended and its outcome, last of all who are told.
            What they raise is logged, and costs the job nothing.

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
        observers: Iterable[Observer] = (),
    ) -> None:
        self._client = app.client
        runtime = self._runtime = app.client.runtime
        registry, settings = runtime.registry, runtime.settings
        registry.check()
        self._loop = asyncio.get_running_loop()
        self._queues = registry.to_consume(queues)
        self.concurrency = concurrency or settings.concurrency
        self.prefetch = prefetch or settings.prefetch or 2 * self.concurrency
        self._observers = tuple(observers)
        self._budget = settings.shutdown_timeout
        self._stopping, self._hurry = asyncio.Event(), asyncio.Event()
        self._stopped_at = 0.0
        self._starting: asyncio.Timeout | None = None
        self._last_resort: asyncio.TimerHandle | None = None
        self._link = Link(settings, "consume")
        self._execution = Execution(self.concurrency)
        self._room = Room(self.stop, self._execution.outliving.obstacle)
        self._holding = False
        self._consuming: Consuming | None = None
        self._connected = asyncio.Event()

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
            not self._stopping.is_set()
            and self._room.state is None
            and self._consuming is not None
            and self._consuming.ready
        )

    @property
    def state(self) -> str:
        """How it is, for probes: see `Liveness`."""
        if self._stopping.is_set():
            return STOPPING
        found = STARTING if self._consuming is None else self._consuming.condition
        if found in (OK, STARTING) and (lacking := self._room.state) is not None:
            return lacking
        return (self._execution.outliving.state or OK) if found == OK else found

    @property
    def stuck(self) -> bool:
        """Whether a thread that could not be ended still runs: it would keep the process alive."""
        running = () if self._consuming is None else self._consuming.running.values()
        return self._execution.abandoned > 0 or any(not task.done() for task in running)

    def snapshot(self) -> Snapshot:
        """What it runs and holds now, for each AMQP queue; nothing until it is connected."""
        return Snapshot() if self._consuming is None else self._consuming.snapshot

    def hold(self) -> None:
        """Start no more jobs until `resume`. What runs goes on, and deliveries wait."""
        self._holding = True
        if self._consuming is not None:
            self._consuming.intake.pause()

    def resume(self) -> None:
        """Start jobs again after `hold`."""
        self._holding = False
        if self._consuming is not None:
            self._consuming.intake.resume()

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
        with first_error():
            async with AsyncExitStack() as stack:
                stack.callback(self._cancel_last_resort)
                stack.push_async_callback(self._link.close)
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
        try:
            async with asyncio.timeout(None) as self._starting:
                wire = await self._link.connect()
                await stack.enter_async_context(self._client.lifespan())
                publisher = await self._client.publisher()
                await self._ensure(wire)
                await stack.enter_async_context(hooks_run(registry.worker_hooks, self._left))
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
            stopping=self._stopping,
            ensure=self._ensure,
            observers=self._observers,
            stack=stack,
        )
        parts.overtime.warn(wire.profile)
        if self._holding:
            parts.intake.pause()
        self._connected.set()
        return parts

    async def _ensure(self, wire: Wire) -> None:
        declare = self._runtime.settings.declare_topology
        await ensure(wire, topology_of(self._queues), declare=declare)

    async def _work_whole(self, parts: Consuming) -> None:
        try:
            await self._work(parts)
        except BaseException:
            # What runs is interrupted, which is no failure of it, and must not go on unseen.
            end = self._loop.time() + self._budget / 8
            await interrupt(parts.running, parts.report, end)
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
            duties = Duties(group, self.stop, self._stopping.is_set)
            begin = duties.begin
            pausing = begin(lambda: parts.pausing.run(subscriptions, settle), "amqpjobs pausing")
            tasks = [
                begin(self._link.run, "amqpjobs consuming link"),
                begin(lambda: watch(*watched, self._stopping), "amqpjobs watchdog"),
                begin(lambda: parts.presence.run(subscriptions, go_on), "amqpjobs presence"),
                begin(liveness.run, "amqpjobs liveness"),
                begin(blocked.run, "amqpjobs blocked loop", returns=True),
                begin(parts.parking.run, "amqpjobs parking", returns=True),
                begin(parts.listen, "amqpjobs control", returns=True),
                *(begin(s.run, f"amqpjobs consumer {s.queue}") for s in subscriptions),
                begin(parts.announce, "amqpjobs announcement", returns=True),
            ]
            await self._stopping.wait()
            await self._drain(parts, pausing)
            for task in tasks:
                task.cancel()
        duties.check()

    async def _drain(self, parts: Consuming, pausing: asyncio.Task[None]) -> None:
        """Stop as the guide's contract says. One budget, counted from the signal."""
        end = self._stopped_at + self._budget
        margin = min(1.0, self._budget / 8)
        # A broker that does not answer must not hold the closing of connections beyond the budget.
        links = self._link, parts.publisher.link
        self._last_resort = self._loop.call_at(end - margin / 4, _abort, *links)
        notify("STOPPING=1")
        log.info("stopping", extra={"running": len(parts.running), "budget_s": self._budget})
        parts.intake.close()
        pausing.cancel()
        await asyncio.gather(*(s.cancel() for s in parts.subscriptions))
        waiting = parts.take_waiting()
        parts.settlement.leave()
        await give_back(waiting, parts.settlement, parts.report_unstarted, end - margin)
        await wait_for(parts.running, self._hurry, end - margin)
        await interrupt(parts.running, parts.report, end - margin / 2)
        await asyncio.gather(*(s.close() for s in parts.subscriptions))
        log.info("stopped", extra={"took_s": round(self._loop.time() - self._stopped_at, 3)})

    def _cancel_last_resort(self) -> None:
        if self._last_resort is not None:
            self._last_resort.cancel()


def _abort(*links: Link) -> None:
    """Drop the connections: what was written has had its time to arrive."""
    for link in links:
        if link.wire is not None:
            link.wire.protocol.abort()
