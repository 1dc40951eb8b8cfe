"""A job in a process of its own that enqueues another: that process knows the environment only."""

import asyncio

from amqpjobs import App, Context

app = App("processes", propagate=("tenant",))


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


@app.job(queue="processes", cpu=True)
def tenant_of(ctx: Context) -> dict[str, str | bool | int | float]:
    """What a process knows of the headers; what it enqueues has one of them."""
    with app.blocking() as client:
        client.later(child.message())
    return dict(ctx.headers)


@app.job(queue="processes")
async def child(ctx: Context) -> dict[str, str]:
    """Where the worker is."""
    return dict(ctx.headers)
