"""FastStream on RabbitMQ.

Levelled: prefetch (its default is unlimited), ack after the handler with requeue on failure (its
default rejects, which drops), persistent messages (its default is transient), a quorum queue,
no log line per message.
"""

import asyncio

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from protocol import LINGER, Arguments, Order, Tally, count_aio_pika_acks, publish_as_asked, run


async def main(args: Arguments) -> None:
    broker = RabbitBroker(
        args.url, logger=None, default_channel=Channel(prefetch_count=args.prefetch)
    )
    queue = RabbitQueue(args.queue, queue_type=QueueType.QUORUM, durable=True, declare=False)
    if args.work != "consume":
        async with broker:
            publisher = broker.publisher(queue, persist=True)
            await publish_as_asked(args, publisher.publish)
        return
    tally = Tally(args.count)
    count_aio_pika_acks(tally)

    @broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
    async def handle(order: Order) -> None:
        tally.handle(order)

    async with broker:
        await broker.start()
        await tally.done.wait()
        await asyncio.sleep(LINGER)
        tally.report()


if __name__ == "__main__":
    run(main)
