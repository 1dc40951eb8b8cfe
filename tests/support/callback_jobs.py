"""Jobs whose callbacks are jobs, and the app that includes their router; into the ledger."""

import asyncio

from amqpjobs import App, Context, Retry, Router
from tests.support.jobs import note

router = Router(prefix="callbacks")


@router.job(queue="work")
async def work(ctx: Context, n: int) -> None:
    """Every third one fails for good."""
    note("worked", n, ctx)
    await asyncio.sleep(0.01)
    if n % 3 == 0:
        raise ValueError(n)


@router.job(queue="notes")
async def told(ctx: Context, how: str, n: int) -> None:
    note(how, n, ctx)


app = App("callbacks", retry=Retry(attempts=1))
app.include(router)
