"""Repid 2.1, which speaks AMQP 1.0 to the same broker and the same port.

Levelled: concurrency, which is also its link credit (1000 by default), durable messages (its
default is not durable), and confirms: `AmqpServer.publish` sends every transfer settled, which is
fire and forget in AMQP 1.0, and reports success when the broker has refused the message. The sender
pool below it takes `settled=False`, and then waits for the broker's disposition.
It cannot choose a virtual host: the URL must name the default one.
"""

import asyncio
import os
import signal
from functools import partial
from typing import Annotated, Any

from protocol import LINGER, Arguments, Order, Tally, publish_as_asked, run
from repid import AmqpServer, FullPayload, Repid, Router
from repid.connections.amqp._uamqp.message import Header

DURABLE = {"header": Header(durable=True)}


async def main(args: Arguments) -> None:
    app = Repid()
    app.servers.register_server("default", AmqpServer(args.url), is_default=True)
    if args.work != "consume":
        async with app.servers.default.connection() as server:
            pool = server.managed_session.sender_pool
            pool.send = partial(pool.send, settled=False)

            async def publish_one(one: Order) -> None:
                await app.send_message_json(
                    channel=args.queue,
                    payload=one,
                    headers={"topic": "handle"},
                    server_specific_parameters=DURABLE,
                )

            await publish_as_asked(args, publish_one)
        return
    tally = Tally(args.count)

    async def count_acks(call_next: Any, message: Any, actor: Any) -> Any:
        result = await call_next(message, actor)
        tally.settle()
        if tally.settled == tally.total:
            asyncio.get_running_loop().call_later(LINGER, os.kill, os.getpid(), signal.SIGTERM)
        return result

    router = Router(middlewares=[count_acks])

    @router.actor(channel=args.queue)
    async def handle(order: Annotated[Order, FullPayload()]) -> None:
        tally.handle(order)

    app.include_router(router)
    async with app.servers.default.connection():
        await app.run_worker(tasks_limit=args.prefetch)
    tally.report()


if __name__ == "__main__":
    run(main)
