"""A job in a process of its own that enqueues another: that process knows the environment only."""

import asyncio

from amqpjobs import App

app = App("processes")


@app.job(queue="processes", cpu=True)
def first(n: int) -> int:
    """In a process."""

    async def enqueue() -> None:
        async with app.lifespan():
            await second.later(n + 1)

    asyncio.run(enqueue())
    return n


@app.job(queue="processes")
async def second(n: int) -> int:
    """Where the worker is."""
    return n
