"""The app of F25: jobs that schedules send, and what each has done, in a file.

Of which database its store is says ``AMQPJOBS_STORE_URL``. Changes when a schedule of the fault
test does.
"""

import os
import time
from pathlib import Path

from amqpjobs import App, Context, Every
from tests.faults.jobs import LEDGER
from tests.faults.ledger import Effect, record

app = App("scheduled")


def note(ctx: Context) -> None:
    """Write which tick has had its effect; whether that may be for the second time."""
    assert ctx.tick is not None
    text = f"{ctx.tick.schedule} {ctx.tick.due:.0f} {ctx.tick.how} {ctx.redelivered}"
    now = time.time()
    record(Path(os.environ[LEDGER]), Effect(ctx.job_id, ctx.attempt, os.getpid(), now, now, text))


@app.job(queue="pulse", schedule=Every(seconds=1, overlap="allow"))
async def pulse(ctx: Context) -> None:
    """Each second."""
    note(ctx)


@app.job(queue="pulse", schedule=Every(seconds=2, missed="skip"))
async def calm(ctx: Context) -> None:
    """Every two seconds; what was missed is left out."""
    note(ctx)


@app.job(queue="pulse", schedule=Every(minutes=10, missed="all", overlap="allow"))
async def bill(ctx: Context) -> None:
    """Each time counts."""
    note(ctx)
