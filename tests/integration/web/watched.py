"""An app whose jobs are watched. `steps` tells how far it is, and waits for files beside the ledger
in between: `<ledger>.1`, `<ledger>.2`."""

import os
from pathlib import Path

from amqpjobs import App, Context, Retry
from tests.support.jobs import note
from tests.support.waiting import until

app = App("watched", retry=Retry(attempts=1))


@app.job(queue="watched", keep_result=True)
async def steps(ctx: Context, n: int) -> str:
    note("started", n, ctx)
    for number in range(1, n + 1):
        await ctx.progress((number - 1) / n, f"step {number}")
        await until(Path(f"{os.environ['JOBS_LEDGER']}.{number}").exists, "go on", timeout=300)
    return f"{n} steps"


@app.job(queue="watched", retry=Retry(attempts=2, first=0, factor=1, limit=1))
async def stumble(ctx: Context) -> None:
    if ctx.attempt == 1:
        raise ValueError("once")
