"""amqpjobs' requests, through its public API. Nothing is levelled but the type of the queue, which
is classic, as that of the others, unless the queue's name says quorum: that is its default.
"""

import asyncio
import os

from asking import ask_as_told, until_told
from protocol import Arguments, Order, run

from amqpjobs import App, Queue
from amqpjobs.worker.worker import Worker


async def main(args: Arguments) -> None:
    os.environ["AMQPJOBS_URL"] = args.url
    app = App("bench")
    kind = "quorum" if "quorum" in args.queue else "classic"

    @app.job(queue=Queue(args.queue, type=kind))
    async def number_of(order: Order) -> int:
        return order.order_id

    if args.work == "ask":
        async with app.lifespan():
            await ask_as_told(args, number_of.request)
        return
    worker = Worker(app, [args.queue], concurrency=200, prefetch=200)
    working = asyncio.ensure_future(worker.run())
    if args.work == "answer":
        await until_told()
    else:
        async with app.lifespan():
            # The first requests wait in the queue until the worker consumes.
            await ask_as_told(args, number_of.request)
    worker.stop()
    await working


if __name__ == "__main__":
    run(main)
