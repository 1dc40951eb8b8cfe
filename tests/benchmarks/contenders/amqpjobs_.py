"""amqpjobs, through its public API.

Nothing is levelled: quorum queues, persistence, confirms and ack after the handler are defaults.
`consume` ends when the last acks are written; stopping comes after.
It does not linger before closing as the others do (see LINGER in protocol.py): giving nothing back
after a clean stop is the worker's own promise, and peers.py checks it.
Everything that depends on how a worker is run from Python is in `worker`.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator

import observed
from protocol import (
    IN_FLIGHT,
    Arguments,
    Order,
    Stopwatch,
    Tally,
    one_at_a_time,
    order,
    report,
    run,
)

from amqpjobs import App, Queue

ACKS_WRITTEN = 3  # turns of the event loop after which the acks of a handler's turn are written
CHAINS_END = 30  # seconds; a chain that has not ended by then was lost
PAUSE = 0.005  # seconds between two publishes of the latency work: the worker is idle again


@contextlib.asynccontextmanager
async def worker(app: App, args: Arguments) -> AsyncIterator[None]:
    """A worker that consumes the queue until the block ends, then stops in good order."""
    from amqpjobs.worker.worker import Worker

    consuming = Worker(app, [args.queue], concurrency=args.prefetch, prefetch=args.prefetch)
    working = asyncio.ensure_future(consuming.run())
    try:
        yield
    finally:
        consuming.stop()
        await working


async def publish_all(app: App, job: object, args: Arguments) -> None:
    """`fill` and `publish`: `later_many`, 500 messages in each call."""
    messages = [job.message(order(number)) for number in range(args.count)]
    watch = Stopwatch()
    watch.start()
    for start in range(0, args.count, IN_FLIGHT):
        await app.later_many(messages[start : start + IN_FLIGHT])
    watch.stop()
    report(watch, args.count)


async def publish_slowly(job: object, args: Arguments) -> None:
    """`latency_publish`: the order's amount is the moment of its publish."""
    watch = Stopwatch()
    watch.start()
    for number in range(args.count):
        made = order(number)
        made.amount = time.perf_counter()
        await job.later(made)
        await asyncio.sleep(PAUSE)
    watch.stop()
    report(watch, args.count)


async def soak(app: App, args: Arguments) -> None:
    """`soak`: for COUNT seconds PREFETCH chains of jobs, each job enqueueing the next before it is
    acked, so that one process publishes and consumes all the time. Then every chain must end."""
    handled = 0
    alive = args.prefetch
    over = False
    ended = asyncio.Event()

    @app.job(queue=Queue(args.queue))
    async def handle(order: Order) -> None:
        nonlocal handled, alive
        handled += 1
        if not over:
            await handle.later(order)
            return
        alive -= 1
        if not alive:
            ended.set()

    async with worker(app, args):
        watch = Stopwatch()
        watch.start()
        await app.later_many([handle.message(order(number)) for number in range(args.prefetch)])
        await asyncio.sleep(args.count)
        over = True
        async with asyncio.timeout(CHAINS_END):
            await ended.wait()
        watch.stop()
    report(watch, handled)


async def main(args: Arguments) -> None:
    os.environ["AMQPJOBS_URL"] = args.url
    observed.set_up()
    app = App("bench")
    if args.work == "soak":
        await soak(app, args)
        return
    tally = Tally(args.count)
    latencies: list[float] = []

    @app.job(queue=Queue(args.queue))
    async def handle(order: Order) -> None:
        if args.work == "latency_consume":
            latencies.append(time.perf_counter() - order.amount)
        tally.handle(order)
        if tally.handled == tally.total:
            tally.done.set()

    if args.work in {"consume", "latency_consume"}:
        async with worker(app, args):
            await tally.done.wait()
            for _ in range(ACKS_WRITTEN):
                await asyncio.sleep(0)
            tally.watch.stop()
        more = {"latencies": latencies} if latencies else {}
        report(tally.watch, tally.handled, checksum=tally.checksum, **more)
        return
    async with app.lifespan():
        if args.work == "sequential":
            report(await one_at_a_time(handle.later, args.count), args.count)
        elif args.work == "latency_publish":
            await publish_slowly(handle, args)
        else:
            await publish_all(app, handle, args)


if __name__ == "__main__":
    run(main)
