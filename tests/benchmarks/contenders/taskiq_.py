"""taskiq with taskiq-aio-pika.

Levelled: prefetch and concurrency (`qos` is 10 and `max_async_tasks` 100 by default), ack when the
task has been executed, no log line per task, no result back end. Messages are persistent,
confirmed and in a quorum queue by its defaults.
"""

import asyncio
import contextlib
import logging

from protocol import LINGER, Arguments, Order, Tally, count_aio_pika_acks, publish_as_asked, run
from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue


async def main(args: Arguments) -> None:
    logging.disable(logging.INFO)
    tally = Tally(args.count)
    broker = AioPikaBroker(
        args.url,
        qos=args.prefetch,
        exchange=Exchange(name=f"{args.queue}.exchange"),
        task_queues=[Queue(name=args.queue)],
        dead_letter_queue=Queue(name=f"{args.queue}.dead"),
    )

    @broker.task(task_name="handle")
    async def handle(order: Order) -> None:
        tally.handle(order)

    if args.work != "consume":
        await broker.startup()
        await publish_as_asked(args, handle.kiq)
        await broker.shutdown()
        return
    count_aio_pika_acks(tally)
    broker.is_worker_process = True
    await broker.startup()
    receiver = asyncio.create_task(
        run_receiver_task(
            broker,
            max_async_tasks=args.prefetch,
            ack_time=AcknowledgeType.WHEN_EXECUTED,
        )
    )
    done = asyncio.create_task(tally.done.wait())
    await asyncio.wait({receiver, done}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(LINGER)
    tally.report()
    receiver.cancel()
    logging.disable(logging.CRITICAL)  # it warns of the cancellation that was asked for
    with contextlib.suppress(asyncio.CancelledError):
        await receiver
    await broker.shutdown()


if __name__ == "__main__":
    run(main)
