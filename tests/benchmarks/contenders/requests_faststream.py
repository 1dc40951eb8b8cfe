"""FastStream's `request`.

Levelled: prefetch, ack after the handler, a durable queue, no log per message. Its requests are
transient by default.
"""

from asking import ask_as_told, until_told
from faststream import AckPolicy
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue
from protocol import Arguments, Order, run


async def main(args: Arguments) -> None:
    broker = RabbitBroker(args.url, logger=None, default_channel=Channel(prefetch_count=200))
    queue = RabbitQueue(args.queue, durable=True)

    async def number_of(order: Order) -> int:
        return order.order_id

    async def request(order: Order) -> int:
        answer = await broker.request(order, queue, timeout=60)
        return int(await answer.decode())

    if args.work != "ask":
        broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)(number_of)
    async with broker:
        await broker.start()
        if args.work == "answer":
            await until_told()
        else:
            await ask_as_told(args, request)


if __name__ == "__main__":
    run(main)
