"""Finishes or requeues deliveries and running jobs when a worker stops. Times are the event loop's.

Changes when the contract of stopping does; `amqpjobs.worker.worker` holds its clock.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.subscription import CANCEL_TIMEOUT
from amqpjobs.jobs.outcome import Outcome, Released
from amqpjobs.worker.endings import stopped_early
from amqpjobs.worker.recycling import longest_left
from amqpjobs.worker.reporting import Observer
from amqpjobs.worker.run import Run
from amqpjobs.worker.settlement import Settlement

if TYPE_CHECKING:
    from amqpjobs.worker.consuming import Consuming

Running: TypeAlias = Mapping[Run, "asyncio.Task[Any]"]
Lingers: TypeAlias = Callable[[Run, "asyncio.Task[Any]"], object]


async def finish(parts: "Consuming", over: asyncio.Event) -> None:
    """Take no more jobs, and let what runs end: a worker that is recycled is in no hurry, and
    interrupts no job within its timeout.

    Args:
        parts: of the worker.
        over: set when it is told to stop within its budget all the same.
    """
    with suppress(TimeoutError):
        # The first delivery may arrive before the broker has said that there is a consumer, and
        # what is not known to be there cannot be cancelled.
        async with asyncio.timeout(CANCEL_TIMEOUT):
            await parts.started()
    await asyncio.gather(*(s.cancel() for s in parts.subscriptions))
    waiting = parts.take_waiting(hurry=False)
    until = asyncio.get_running_loop().time() + longest_left(parts.running)
    await give_back(waiting, parts.settlement, parts.report_unstarted, until)
    await wait_for(parts.running, over, until)


async def give_back(
    waiting: Sequence[Delivery], settlement: Settlement, report: Observer, until: float
) -> None:
    """Give back what was not started, in the order in which it was delivered."""
    if not waiting:
        return
    outcome: Outcome = Released("not started before the worker stopped")
    settling = [settlement.settle(delivery, outcome) for delivery in waiting]
    for delivery in waiting:
        report(Run(delivery), outcome)
    copies = [asyncio.ensure_future(copy) for copy in settling if copy is not None]
    if copies:
        left = max(0.0, until - asyncio.get_running_loop().time())
        _, late = await asyncio.wait(copies, timeout=left)
        for copy in late:
            copy.cancel()


async def wait_for(running: Running, hurry: asyncio.Event, until: float) -> None:
    """Let running jobs end, until then or until a second signal."""
    clock = asyncio.get_running_loop().time
    hurried = asyncio.ensure_future(hurry.wait())
    try:
        while running and not hurried.done():
            left = until - clock()
            if left <= 0:
                return
            await asyncio.wait(
                (*running.values(), hurried), timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
    finally:
        hurried.cancel()


async def drain(parts: "Consuming", hurry: asyncio.Event, end: float, margin: float) -> None:
    """Stop as the guide's contract says.

    Args:
        parts: of the worker.
        hurry: set when what runs is to be cancelled now.
        end: of the budget.
        margin: seconds before it that are left for giving back.
    """
    parts.intake.close()
    await asyncio.gather(*(s.cancel() for s in parts.subscriptions))
    waiting = parts.take_waiting()
    parts.settlement.leave()
    await give_back(waiting, parts.settlement, parts.report_unstarted, end - margin)
    await wait_for(parts.running, hurry, end - margin)
    await interrupt(parts.running, parts.report, end - margin / 2, parts.lingers)
    if parts.hook_calls is not None:
        await parts.hook_calls.finish(end - margin / 2)
    if parts.singletons is not None:
        # Their consumers stayed while a job ran, and one that was acked made room for another.
        await asyncio.gather(*(s.cancel() for s in parts.subscriptions))
        late = parts.take_waiting()
        await give_back(late, parts.settlement, parts.report_unstarted, end - margin / 2)
        parts.singletons.tell_taken()
    await parts.memory.finish(max(0.0, end - margin / 2 - asyncio.get_running_loop().time()))
    await asyncio.gather(*(s.close() for s in parts.subscriptions))


async def interrupt(
    running: Running, report: Observer, until: float, lingers: Lingers = lambda _, __: None
) -> None:
    """Cancel what runs; give back by force what will not end, which `lingers` is told of."""
    tasks = tuple(running.values())
    for run, task in running.items():
        run.interrupted = True
        task.cancel("the worker is stopping")
    if tasks:
        left = until - asyncio.get_running_loop().time()
        await asyncio.wait(tasks, timeout=max(0.05, left))
    # Those that go on regardless; and those that were cancelled before their first step, of which
    # Python runs nothing at all.
    for run, task in running.items():
        if not run.delivery.settled:
            lingers(run, task)
            run.delivery.release()
            report(run, stopped_early(run, "it did not end when it was cancelled"))
