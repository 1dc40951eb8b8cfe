"""The app of the poison tests: jobs that kill their process, and innocents. At the top level of a
module, so that other processes can import them."""

import asyncio
import ctypes
import os
import signal
import time
from pathlib import Path

from amqpjobs import App, Context, Queue, Retry
from tests.faults.jobs import LEDGER, note
from tests.faults.ledger import Effect, record

STARTS = "starts"
"""The file beside that of the effects with the starts of culprits, which have no effects."""

app = App("poison", retry=Retry(attempts=1))
work = Queue("work")


@app.job(queue=work)
async def innocent(ctx: Context, number: int, seconds: float = 0.0) -> None:
    start = time.time()
    await asyncio.sleep(seconds)
    note(ctx, start, str(number))


@app.job(queue=work)
def innocent_thread(ctx: Context, number: int) -> None:
    note(ctx, time.time(), str(number))


@app.job(queue=work)
async def chained(ctx: Context, number: int) -> None:
    """Enqueues another job, from wherever it runs."""
    await innocent.later(number)
    note(ctx, time.time(), str(number))


@app.job(queue=work)
async def culprit(ctx: Context, how: str) -> None:
    die(ctx, how)


@app.job(queue=work)
def culprit_thread(ctx: Context, how: str) -> None:
    die(ctx, how)


@app.job(queue=work, cpu=True)
def culprit_cpu(ctx: Context, how: str) -> None:
    die(ctx, how)


def die(ctx: Context, how: str) -> None:
    start = Effect(ctx.job_id, ctx.attempt, os.getpid(), time.time(), time.time(), how)
    record(Path(os.environ[LEDGER]).with_name(STARTS), start)
    match how:
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(7)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "memory":  # until the kernel ends it
            held = []
            while True:
                held.append(os.urandom(2**20) * 8)
