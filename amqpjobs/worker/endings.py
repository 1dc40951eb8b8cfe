"""Ways out of a handler that are no return and no error of its own, and what leaves the executor.

Changes when a run may end in another way that its outcome does not say by itself.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import INTERRUPTED, Outcome, Rejected, Released, Retried, Snoozed

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.delivery import Delivery
    from amqpjobs.jobs.run_context import RunContext
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

PAUSE = 5.0
"""Seconds for which a delivery that cannot be settled, since we have a bug, keeps its slot. Given
back at once it would be here again at once."""


class Settle(Protocol):
    """See `Settlement.settle`."""

    def __call__(
        self,
        delivery: "Delivery",
        outcome: Outcome,
        context: "RunContext | None" = None,
        /,
        *,
        callbacks: bool = False,
    ) -> Awaitable[Outcome] | None:
        """Settle a delivery."""
        ...


class Endings:
    """Tells what a handler did to itself from what its worker or its event loop does to it."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def begin(self) -> None:
        """The worker runs in this task."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def is_from_outside(self, error: BaseException) -> bool:
        """Whether this is how the whole worker ends, and says nothing of the job: `asyncio.run`
        cancels every task at its end, and a coroutine that is left behind is closed."""
        if isinstance(error, GeneratorExit):
            return self._loop is not None and asyncio.current_task(self._loop) is None
        own = self._task
        return (
            isinstance(error, asyncio.CancelledError)
            and own is not None
            and (own.done() or own.cancelling() > 0)
        )

    async def calm(self, run: "Run") -> None:
        """Take back the cancellations that a handler has left behind, or that have ended it: they
        would end what comes next, which is its answer and its settlement."""
        task = asyncio.current_task()
        if task is None or run.interrupted or not task.cancelling():
            return
        _uncancel(task)
        try:
            # Before Python 3.13 one that was not delivered yet stays, and comes with the next wait.
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            if run.interrupted or self.is_from_outside(error):
                raise

    async def settled(self, run: "Run", outcome: Outcome, waiting: Awaitable[Outcome]) -> Outcome:
        """Wait for a copy; returns how the run was settled. What a handler has left behind to
        cancel its task, such as a timer, does not stop it: the copy may be there already, and
        giving the original back would double it."""
        settling, task = asyncio.ensure_future(waiting), asyncio.current_task()
        while not settling.done():
            try:
                await asyncio.wait([settling])
            except asyncio.CancelledError as error:
                if run.interrupted or self.is_from_outside(error):
                    settling.cancel()
                elif task is not None:
                    _uncancel(task)
        if settling.cancelled() and run.interrupted:
            if run.delivery.accepted and not isinstance(outcome, Rejected | Retried | Snoozed):
                return outcome  # without its callback: the log says that
            return stopped_early(run, "the worker is stopping")
        return settling.result()

    async def waited(self, run: "Run", future: "asyncio.Future[None]", seconds: float) -> None:
        """Wait for something that need not come, so many seconds at most. What a handler has left
        behind to cancel its task does not stop it; a worker that interrupts the run does."""
        clock, task = asyncio.get_running_loop().time, asyncio.current_task()
        end = clock() + seconds
        while not future.done() and (left := end - clock()) > 0:
            try:
                await asyncio.wait((future,), timeout=left)
            except asyncio.CancelledError as error:
                if self.is_from_outside(error):
                    raise
                if run.interrupted:
                    return  # its outcome is known, and is settled at once
                if task is not None:
                    _uncancel(task)

    async def of_bug(
        self,
        run: "Run",
        error: BaseException,
        fail: Callable[["Run", BaseException], Outcome],
        settle: Settle,
    ) -> Outcome | None:
        """Deal with what has left the executor: a bug of ours. It is logged, counts as an attempt,
        and the next one comes after the pause of the retry policy.

        Returns:
            How the delivery was settled; None if it was settled before, or could not be.
        """
        if self.is_from_outside(error) or (
            run.interrupted and isinstance(error, asyncio.CancelledError)
        ):
            raise error
        log.critical("a bug in amqpjobs", extra={"run": repr(run.context)}, exc_info=error)
        await self.calm(run)
        if run.delivery.settled:
            return None
        try:
            outcome = fail(run, error)
            waiting = settle(run.delivery, outcome, run.context, callbacks=run.callbacks)
            return outcome if waiting is None else await self.settled(run, outcome, waiting)
        except Exception:
            log.critical(
                "a bug in amqpjobs, job unsettled", extra={"run": repr(run.context)}, exc_info=True
            )
            await asyncio.sleep(PAUSE)
            return None


def stopped_early(run: "Run", reason: str) -> Released | Rejected:
    """The outcome of a run that ended with its worker, and without a copy."""
    if run.delivery.accepted:
        words = f"{reason}; it runs at most once, and its dead letter was not confirmed"
        return Rejected(Failure(INTERRUPTED, words))
    return Released(reason)


def _uncancel(task: "asyncio.Task[object]") -> None:
    while task.cancelling():
        task.uncancel()
