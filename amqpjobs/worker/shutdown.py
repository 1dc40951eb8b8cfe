"""What becomes of deliveries and running jobs when a worker stops. Times are the event loop's.

Changes when the contract of stopping does; `amqpjobs.worker.worker` holds its clock.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.jobs.outcome import Outcome, Released
from amqpjobs.worker.reporting import Observer
from amqpjobs.worker.run import Run
from amqpjobs.worker.settlement import Settlement

Running: TypeAlias = Mapping[Run, "asyncio.Task[Any]"]


async def give_back(
    waiting: Sequence[Delivery], settlement: Settlement, report: Observer, until: float
) -> None:
    """Give back what was not started, in the order in which it was delivered."""
    if not waiting:
        return
    outcome: Outcome = Released("not started when the worker was told to stop")
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


async def interrupt(running: Running, report: Observer, until: float) -> None:
    """Cancel what runs; give back by force what will not end."""
    tasks = tuple(running.values())
    for run, task in running.items():
        run.interrupted = True
        task.cancel("the worker was told to stop")
    if tasks:
        left = until - asyncio.get_running_loop().time()
        await asyncio.wait(tasks, timeout=max(0.05, left))
    outcome: Outcome = Released("it did not end when it was cancelled")
    # Those that go on regardless; and those that were cancelled before their first step, of which
    # Python runs nothing at all.
    for run in running:
        if not run.delivery.settled:
            run.delivery.release()
            report(run, outcome)
