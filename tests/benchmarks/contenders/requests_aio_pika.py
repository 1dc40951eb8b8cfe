"""aio-pika's `patterns.RPC`, with JSON (its default is pickle).

Levelled: JSON, prefetch, a durable queue; the handler validates by pydantic. Its requests are
transient by default.
"""

import aio_pika
from aio_pika.patterns import JsonRPC
from asking import ask_as_told, until_told
from protocol import Arguments, Order, run


async def main(args: Arguments) -> None:
    connection = await aio_pika.connect_robust(args.url)
    async with connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=200)
        rpc = await JsonRPC.create(channel)

        async def number_of(*, order: dict) -> int:
            return Order.model_validate(order).order_id

        async def request(order: Order) -> int:
            return await rpc.call(args.queue, {"order": order.model_dump()})

        if args.work != "ask":
            await rpc.register(args.queue, number_of, durable=True)
        if args.work == "answer":
            await until_told()
        else:
            await ask_as_told(args, request)


if __name__ == "__main__":
    run(main)
