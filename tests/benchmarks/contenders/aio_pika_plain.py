"""aio-pika as its documentation shows it: `queue.consume` and `async with message.process()`.

Levelled: persistent messages, prefetch, publisher confirms (its default), a quorum queue.
Also: `latency_publish` and `latency_consume` for latency.py, where the order's amount is the
moment of its publish on the machine's monotonic clock.
"""

import asyncio
import time

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from protocol import (
    LINGER,
    Arguments,
    Order,
    Stopwatch,
    Tally,
    order,
    publish_as_asked,
    report,
    run,
)

PAUSE = 0.005  # seconds between two publishes of the latency work: the worker is idle again


async def consume(args: Arguments, channel: AbstractChannel) -> None:
    """Drain the queue: validate, handle, ack."""
    tally = Tally(args.count)
    await channel.set_qos(prefetch_count=args.prefetch)
    queue = await channel.get_queue(args.queue)

    async def on_message(message: AbstractIncomingMessage) -> None:
        async with message.process():
            tally.handle(Order.model_validate_json(message.body))
        tally.settle()

    tag = await queue.consume(on_message)
    await tally.done.wait()
    await queue.cancel(tag)
    await asyncio.sleep(LINGER)
    tally.report()


async def publish(args: Arguments, channel: AbstractChannel) -> None:
    """Publish as asked, persistent and confirmed."""

    async def publish_one(one: Order) -> None:
        message = aio_pika.Message(
            one.model_dump_json().encode(),
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        await channel.default_exchange.publish(message, routing_key=args.queue)

    if args.work != "latency_publish":
        await publish_as_asked(args, publish_one)
        return
    watch = Stopwatch()
    watch.start()
    for number in range(args.count):
        made = order(number)
        made.amount = time.perf_counter()
        await publish_one(made)
        await asyncio.sleep(PAUSE)
    watch.stop()
    report(watch, args.count)


async def latency_consume(args: Arguments, channel: AbstractChannel) -> None:
    """Note how long each order took from before its publish to the start of its handler."""
    tally = Tally(args.count)
    latencies: list[float] = []
    await channel.set_qos(prefetch_count=args.prefetch)
    queue = await channel.get_queue(args.queue)

    async def on_message(message: AbstractIncomingMessage) -> None:
        async with message.process():
            one = Order.model_validate_json(message.body)
            latencies.append(time.perf_counter() - one.amount)
            tally.handle(one)
        tally.settle()

    tag = await queue.consume(on_message)
    await tally.done.wait()
    await queue.cancel(tag)
    await asyncio.sleep(LINGER)
    report(tally.watch, tally.handled, checksum=tally.checksum, latencies=latencies)


async def main(args: Arguments) -> None:
    works = {"consume": consume, "latency_consume": latency_consume}
    connection = await aio_pika.connect(args.url)
    async with connection:
        channel = await connection.channel()
        await works.get(args.work, publish)(args, channel)


if __name__ == "__main__":
    run(main)
