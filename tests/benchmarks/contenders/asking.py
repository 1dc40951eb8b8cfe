"""What the contenders of requests.py share. Three works, each in a process of its own:

    answer  answer requests until stdin ends
    ask     make COUNT requests, PREFETCH of them in flight, and check that each gets its own answer
    both    the same, and answer them in the same process

A request carries an order; its answer is the order's number. `latencies` (seconds) are told when
one is made at a time.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable

from protocol import Arguments, Order, Stopwatch, order, report

WARM_UP = 100  # requests that are not measured


async def until_told() -> None:
    """Wait for the end of stdin."""
    await asyncio.to_thread(sys.stdin.read)


async def ask_as_told(args: Arguments, request: Callable[[Order], Awaitable[int]]) -> None:
    """Do `ask` with this contender's `request`, and report."""
    orders = [order(number) for number in range(args.count)]
    for one in orders[:WARM_UP]:
        await request(one)
    latencies: list[float] = []
    waiting = iter(orders)
    watch = Stopwatch()

    async def lane() -> None:
        for one in waiting:
            began = time.perf_counter()
            answer = await request(one)
            if answer != one.order_id:
                raise AssertionError(f"{one.order_id} was answered {answer!r}")
            latencies.append(time.perf_counter() - began)

    watch.start()
    await asyncio.gather(*(lane() for _ in range(args.prefetch)))
    watch.stop()
    more = {"latencies": latencies} if args.prefetch == 1 else {}
    report(watch, len(latencies), **more)
