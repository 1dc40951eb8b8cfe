"""The life of one job in a worker: outcome, reply, settlement, report, and then its slot is free.

Changes when a run gets another step.
"""

import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from amqpjobs.jobs.outcome import Done, Outcome, Snoozed
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.recently_settled import LONG, Settled
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    import asyncio

    from amqpjobs.worker.durable import DurableWork
    from amqpjobs.worker.execution.outliving import Outliving
    from amqpjobs.worker.intake import Intake
    from amqpjobs.worker.limits import Limits
    from amqpjobs.worker.pausing import Pausing
    from amqpjobs.worker.pipeline import Pipeline
    from amqpjobs.worker.redeliveries import Redeliveries
    from amqpjobs.worker.replying import Answering
    from amqpjobs.worker.reporting import Observer
    from amqpjobs.worker.settlement import Settlement
    from amqpjobs.worker.singletons import Singletons


GIVING_BACK = 2.0
"""Seconds for which a job that is done waits until its slots are free. The store may be away: then
it is acked without, and they are given up later."""


class Executor:
    """From a delivery to its settlement. Every run ends in one outcome, one settlement, one report.

    Args:
        pipeline: turns the run into an outcome.
        endings: tells what a handler did to its task from what the worker does to it.
        replying: sends the reply to the caller, before anything is settled.
        settlement: the only place that acks, gives back, or copies.
        report: tells the observers.
        remembered: the long runs that were acked, which RabbitMQ may deliver again all the same.
        running: the runs under way; a run is taken out at its end.
        intake: gets the slot back. A run in quarantine gives its place back there.
        pausing: told how a run has ended, before it is settled: its copy must meet a closed gate.
        outliving: threads that keep the slot of their job until they end.
        redeliveries: holds what was delivered again while its first run is under way.
        limits: gives up what a job had that may not run at once with others; None where none has.
        singletons: told when nothing of a job of theirs goes on; None where there are none.
        durable: stores the ends of durable jobs and of their parts; None where nothing is stored.
    """

    def __init__(
        self,
        *,
        pipeline: "Pipeline",
        endings: Endings,
        replying: "Answering",
        settlement: "Settlement",
        report: "Observer",
        remembered: Settled,
        running: "MutableMapping[Run, asyncio.Task[Any]]",
        intake: "Intake",
        pausing: "Pausing",
        outliving: "Outliving",
        redeliveries: "Redeliveries",
        limits: "Limits | None" = None,
        singletons: "Singletons | None" = None,
        durable: "DurableWork | None" = None,
    ) -> None:
        self._pipeline = pipeline
        self._endings = endings
        self._replying = replying
        self._settlement = settlement
        self._report = report
        self._remembered = remembered
        self._running = running
        self._intake = intake
        self._pausing = pausing
        self._outliving = outliving
        self._redeliveries = redeliveries
        self._limits = limits
        self._singletons = singletons
        self._durable = durable

    async def execute(self, run: Run) -> None:
        """Run a job from its delivery to its end: one coroutine in one task, with no callback at
        its end. Both cost as much as a no-op handler."""
        outcome: Outcome | None = None
        try:
            outcome = await self._pipeline.outcome_of(run)
            run.ended = time.monotonic()
            if run.exclusive is not None:
                await self._give_back(run)
            if run.family and self._durable is not None and not run.delivery.settled:
                await self._endings.calm(run)
                outcome = await self._durable.end(run, outcome)
            if self._intake.gated or isinstance(outcome, Snoozed):
                self._pausing.ended(run.delivery, outcome)
            if run.delivery.settled:
                return  # given back by force while the handler would not end
            if run.asked is not None:
                await self._endings.calm(run)
                outcome = await self._replying.answer(run, outcome)
            waiting = self._settlement.settle(
                run.delivery, outcome, run.context, callbacks=run.callbacks
            )
            if waiting is not None:
                outcome = await self._endings.settled(run, outcome, waiting)
            elif isinstance(outcome, Done) and time.monotonic() - run.started > LONG:
                self._remembered.acked(run.delivery)
            if self._limits is not None:
                self._limits.settled(run, outcome)
            self._report(run, outcome)
        except BaseException as error:  # noqa: BLE001 - KeyboardInterrupt would end the event loop
            await self._of_bug(run, error)
        finally:
            # Its error has a traceback, whose first frame leads back to this one in Python 3.12 and
            # 3.13: all that the handler held would wait for the garbage collector.
            outcome = None
            self._over(run)

    async def _give_back(self, run: Run) -> None:
        """Give up the slots of a run before its ack: of a worker that dies in between the job comes
        again, and takes them anew. Behind the ack they would stay until their lease is over."""
        if self._limits is not None and not self._outliving.calls:
            await self._endings.waited(run, self._limits.give_back(run), GIVING_BACK)

    def take_over(self, run: Run) -> Run:
        """End a run whose handler does not end: what this returns is settled, by `end`, and gives
        the slot back. The handler goes on, and what it returns is dropped."""
        delivery = run.delivery
        settled = delivery.hand_over()
        settled.settled, delivery.settled = True, False
        ended = Run(delivery, run.quarantine)
        ended.context, ended.definition, ended.asked = run.context, run.definition, run.asked
        ended.started, ended.begun, ended.traced = run.started, run.begun, run.traced
        ended.callbacks, ended.cancelled = run.callbacks, run.cancelled
        ended.ticked, ended.parented, ended.family = run.ticked, run.parented, run.family
        ended.durable, ended.chunk = run.durable, run.chunk
        if hasattr(run, "why"):
            ended.why = run.why
        ended.ended = time.monotonic()  # so that nobody cancels it before its first step
        if run.traced is not None:
            run.traced.ended = time.time_ns()
        run.delivery = settled
        if run in self._redeliveries.held:
            self._redeliveries.held[ended] = self._redeliveries.held.pop(run)
        return ended

    async def end(self, run: Run, error: Exception) -> None:
        """Give a run that was taken over its outcome, which is that of an error; if it was
        cancelled before, and did not mind, it is cancelled now."""
        try:
            judge = self._pipeline.judge
            outcome = judge.ended_early(run) if run.cancelled else judge.failed(run, error)
            if run.family and self._durable is not None:
                outcome = await self._durable.end(run, outcome)
            if self._intake.gated or isinstance(outcome, Snoozed):
                self._pausing.ended(run.delivery, outcome)
            if run.asked is not None:
                outcome = await self._replying.answer(run, outcome)
            if run.delivery.settled:
                return  # given back by force meanwhile
            waiting = self._settlement.settle(
                run.delivery, outcome, run.context, callbacks=run.callbacks
            )
            if waiting is not None:
                outcome = await self._endings.settled(run, outcome, waiting)
            if self._limits is not None:
                self._limits.settled(run, outcome)
            self._report(run, outcome)
        except BaseException as bug:  # noqa: BLE001 - as in `execute`
            await self._of_bug(run, bug)
        finally:
            self._over(run)

    async def _of_bug(self, run: Run, error: BaseException) -> None:
        fail, settle = self._pipeline.judge.failed_by_us, self._settlement.settle
        outcome: Outcome | None = await self._endings.of_bug(run, error, fail, settle)
        if outcome is not None:
            self._report(run, outcome)

    def _over(self, run: Run) -> None:
        """Free its slot, and look at what waited for its end."""
        if not run.delivery.settled:
            run.delivery.release()
        try:
            del self._running[run]
        except KeyError:
            if self._limits is not None:
                self._limits.over(run)
            return  # it was taken over, and its slot is free
        if self._intake.gated:
            self._pausing.ended(run.delivery, None)
        free: Callable[[], object]
        free = (self._intake if run.quarantine is None else run.quarantine).finished
        if self._limits is not None and run.exclusive is not None:
            free = self._limits.then(run, free)
        if self._singletons is not None:
            free = self._singletons.freeing(run, free)
        if not self._outliving.calls or not self._outliving.keep(run.context, free):
            free()
        if self._redeliveries.held:
            self._redeliveries.ended(run)
