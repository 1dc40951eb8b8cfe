"""An app whose jobs are done, fail, are retried, and enqueue others; one is durable."""

from amqpjobs import App, Context, Retry
from tests.support.jobs import note

app = App("metered", retry=Retry(attempts=1))
app.outbox()


@app.job(queue="work")
async def last(ctx: Context, n: int) -> None:
    """Done at once."""
    note("done", n, ctx)


@app.job(queue="work", durable=True)
async def durable(ctx: Context) -> None:
    """What is counted of such jobs, though there is none, is served."""


@app.job(queue="work", retry=Retry(attempts=2, first=0.1, jitter=False))
async def first(ctx: Context, n: int) -> None:
    """Fails, and is done at the second try."""
    if ctx.attempt == 1:
        raise LookupError(n)
    await last.later(n + 1)
