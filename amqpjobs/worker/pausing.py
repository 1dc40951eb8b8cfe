"""Pauses queues and resumes them, as their gates say: consumers, what waits here, and the marks.

Changes when pausing a queue takes another step.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

from amqpjobs.broker.rabbitmq.background import BackgroundTask, lasting
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.pause_marks import Mark
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.outcome import Outcome, Released, Snoozed
from amqpjobs.jobs.queue.holds import Hold, with_rate
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.worker.deferral import Deferral
from amqpjobs.worker.flow.gate import UNTIL_TOLD, Gate
from amqpjobs.worker.flow.token_bucket import prefetch_of
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.quarantine import Quarantine

log = logging.getLogger("amqpjobs.worker")

Settle = Callable[[Delivery, Outcome], Awaitable[Outcome] | None]


class Pausing:
    """Holds the queues of one worker to their gates.

    Args:
        queues: that are consumed.
        prefetch: by queue, the deliveries held of each of its AMQP queues when all is well.
        link: where they are consumed.
        intake: starts the jobs, or does not.
        deferral: holds what came too early.
        quarantine: starts jobs beside the intake.
        clock: of pauses and rates.
    """

    def __init__(
        self,
        queues: list[Queue],
        prefetch: Mapping[str, int],
        link: Link,
        intake: Intake,
        deferral: Deferral,
        quarantine: Quarantine,
        clock: Clock = MACHINE,
    ) -> None:
        self._clock = clock
        self._intake = intake
        places = _Places(intake, deferral, quarantine)
        self._places = places
        self._queues = {lane.queue: queue for queue in queues for lane in lanes_of(queue)}
        self._paused = {q.name: _Pause(q, prefetch[q.name], link, places, clock) for q in queues}

    def ended(self, delivery: Delivery, outcome: Outcome | None) -> None:
        """A run has ended: what follows from it for its queue. None if nobody knows how."""
        queue = self._queues[delivery.queue]
        limited = outcome.rate_limited if isinstance(outcome, Snoozed) else None
        gate = self._intake.gate_of(queue)
        if gate is None and limited is None:
            return
        gate = gate or self._intake.make_gate(queue)
        now = self._clock.monotonic()
        changed = gate.left(delivery, outcome, now)
        if limited is not None:
            changed = _close(gate, queue, limited, now) or changed
        if changed:
            self._paused[queue.name].changed.set()
            self._places.open(queue.name)

    def open(self, name: str) -> None:
        """Start what the queue's gate lets through by now."""
        self._places.open(name)

    def hold(self, holds: Mapping[str, Hold]) -> None:
        """Follow what operators have set: pauses and rates.

        Args:
            holds: by queue; one that is not there has nothing set.
        """
        for name, pause in self._paused.items():
            if pause.hold_as(holds.get(name)):
                self._places.open(name)

    def rest(self, subscriptions: list[Subscription]) -> None:
        """Before the first start: do not consume what is paused."""
        now = self._clock.monotonic()
        for subscription in subscriptions:
            gate = self._intake.gate_of(self._queues[subscription.queue])
            if gate is not None and gate.consuming(now) is False:
                subscription.consume_with(0)

    async def followed(self) -> None:
        """Wait until what `hold` was told is done: consumers are paused, and what they had not
        started is requeued."""
        for pause in self._paused.values():
            await pause.followed.wait()

    async def run(self, subscriptions: list[Subscription], settle: Settle) -> None:
        """Pause and resume until cancelled.

        Args:
            subscriptions: of all queues.
            settle: gives deliveries back.
        """
        by_queue: dict[str, list[Subscription]] = {name: [] for name in self._paused}
        for subscription in subscriptions:
            by_queue[self._queues[subscription.queue].name].append(subscription)
        async with asyncio.TaskGroup() as group:
            for name, pause in self._paused.items():
                own = by_queue[name]
                task = f"amqpjobs pausing {name}"
                group.create_task(lasting(partial(pause.run, own, settle), task), name=task)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where deliveries wait in this worker."""

    intake: Intake
    deferral: Deferral
    quarantine: Quarantine

    def open(self, name: str) -> None:
        # Suspects first: they are few, and what waits in the intake would leave them nothing.
        self.quarantine.open()
        self.intake.open(name)

    def take_waiting(self, queue: Queue) -> list[Delivery]:
        lanes = [lane.queue for lane in lanes_of(queue)]
        return [
            *self.quarantine.drop(lambda delivery: delivery.queue in lanes),
            *self.intake.take_waiting(queue.name),
            *self.deferral.take_held(lanes),
        ]


class _Pause:
    """One queue, consumed or not."""

    def __init__(
        self, queue: Queue, prefetch: int, link: Link, places: "_Places", clock: Clock
    ) -> None:
        self._clock = clock
        self.changed = asyncio.Event()
        self._queue = queue
        self._prefetch = {
            lane.queue: prefetch_of(queue, lane, prefetch) for lane in lanes_of(queue)
        }
        self._link = link
        self._places = places
        self._holding: BackgroundTask | None = None
        self._mark = Mark(link, queue.name)
        self._most = prefetch
        self._hold: Hold | None = None
        self._limited = False
        self._unrested = False
        self.followed = asyncio.Event()
        self.followed.set()

    async def run(self, subscriptions: list[Subscription], settle: Settle) -> None:
        """Do what the gate says, each time that it may say something else."""
        try:
            while True:
                await self.changed.wait()
                gate = self._places.intake.gate_of(self._queue)
                if gate is not None:
                    await self._follow(gate, subscriptions, settle)
                self.followed.set()
        finally:
            self.followed.set()
            if self._holding is not None:
                self._holding.cancel()

    def hold_as(self, hold: Hold | None) -> bool:
        """Follow what an operator has set; None for nothing.

        Returns:
            Whether that is new.
        """
        before, self._hold = self._hold, hold
        if hold == before:
            return False
        gate = self._places.intake.gate_of(self._queue)
        gate = gate or self._places.intake.make_gate(self._queue)
        now = self._clock.monotonic()
        gate.held_until = 0.0
        if hold is not None and hold.paused:
            left = float("inf") if hold.until is None else hold.until - self._clock.time()
            gate.held_until = now + left
        rate = None if hold is None else hold.rate
        if rate != (None if before is None else before.rate):
            self._limit(gate, rate)
        self.followed.clear()
        self.changed.set()
        return True

    def _limit(self, gate: Gate, rate: str | None) -> None:
        queue = with_rate(self._queue, rate)
        gate.limit(queue)
        self._prefetch = {
            lane.queue: prefetch_of(queue, lane, self._most) for lane in lanes_of(queue)
        }
        self._limited = True
        log.info("rate set by an operator", extra={"queue": queue.name, "rate": queue.rate})

    async def _follow(self, gate: Gate, subscriptions: list[Subscription], settle: Settle) -> None:
        """Pause, try, and resume; returns when the queue is consumed as ever."""
        before: bool | None = True
        while True:
            self.changed.clear()
            now = self._clock.monotonic()
            if gate.switch is not None:
                gate.switch.look(now)
            consuming = gate.consuming(now)
            if consuming is not before:
                _tell(self._queue, gate, before, consuming)
                if now < gate.held_until:
                    _tell_hold(self._hold)
            if consuming is not before or self._limited or self._unrested:
                self._limited = False
                await self._consume(subscriptions, consuming, settle)
                self._places.open(self._queue.name)
            if consuming:
                return
            self.followed.set()
            before = consuming
            await self._until_changed(None if consuming is None else gate.changes_in(now))

    async def _until_changed(self, seconds: float | None) -> None:
        """Wait until somebody says so, or so long."""
        over = None
        if seconds is not None and seconds != UNTIL_TOLD:
            over = self._clock.call_later(seconds, self.changed.set)
        try:
            await self.changed.wait()
        finally:
            if over is not None:
                over.cancel()

    async def _consume(
        self, subscriptions: list[Subscription], consuming: bool | None, settle: Settle
    ) -> None:
        for subscription in subscriptions:
            whole = self._prefetch[subscription.queue]
            subscription.consume_with(whole if consuming else 0 if consuming is False else 1)
        if consuming is False:
            await self._end_mark()
            self._holding = BackgroundTask(self._mark.hold, "amqpjobs mark")
            if await self._rested(subscriptions):
                await self._give_back(settle)
        elif consuming:
            await self._end_mark()
            await self._mark.remove()

    async def _rested(self, subscriptions: list[Subscription]) -> bool:
        """Wait until nothing is delivered. The consumer of a singleton queue stays for as long as a
        job of it runs; then False, if something has changed meanwhile."""
        resting = asyncio.gather(*(s.rested() for s in subscriptions))
        if not self._queue.singleton:
            await resting
            return True
        self.followed.set()  # nothing starts any more
        changed = asyncio.ensure_future(self.changed.wait())
        try:
            await asyncio.wait((resting, changed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._unrested = not resting.done()
            changed.cancel()
            resting.cancel()
        return not self._unrested

    async def _end_mark(self) -> None:
        if self._holding is not None:
            await self._holding.stop()

    async def _give_back(self, settle: Settle) -> None:
        """What was not started goes to other workers, or waits on the broker."""
        waiting = self._places.take_waiting(self._queue)
        outcome = Released("its queue is paused")
        # Before anything is awaited: a worker that is told to stop gives back what is not settled.
        settling = [settle(delivery, outcome) for delivery in waiting if not delivery.stale]
        await asyncio.gather(*(copy for copy in settling if copy is not None))
        if waiting:
            log.info("jobs requeued", extra={"queue": self._queue.name, "jobs": len(waiting)})


def _close(gate: Gate, queue: Queue, seconds: float, now: float) -> bool:
    was_open = gate.closed_until <= now
    later = gate.close(seconds, now)
    if later and was_open:
        log.warning("rate limited", extra={"queue": queue.name, "pause_s": round(seconds, 3)})
    return later


def _tell(queue: Queue, gate: Gate, before: bool | None, consuming: bool | None) -> None:
    keys: dict[str, object] = {"queue": queue.name}
    switch = gate.switch
    if consuming is None:
        log.info("paused queue tries one job", extra=keys)
    elif consuming:
        log.info("queue resumed", extra=keys)
    elif switch is not None and switch.state == "paused":
        failures, of = (1, 1) if before is None else (switch.failed, switch.ended)
        keys |= {"failures": failures, "of": of, "pause_s": round(switch.pause, 3)}
        log.warning("queue paused", extra=keys)


def _tell_hold(hold: Hold | None) -> None:
    if hold is not None:
        keys = {"queue": hold.queue, "by": hold.by or None, "until": hold.until}
        log.info("queue paused by an operator", extra={k: v for k, v in keys.items() if v})
