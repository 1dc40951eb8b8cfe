"""An app for workers in processes of their own. What its jobs do is written into a ledger file.

`JOBS_LEDGER` names the file; a line is one JSON object: event, n, pid, attempt.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from amqpjobs import App, Context, Queue, Retry
from tests.support.waiting import until

app = App("jobs", retry=Retry(attempts=1))
work = Queue("work")
lanes = Queue("lanes", priorities={"high": 2, "low": 1})


def note(event: str, n: int, context: Context | None = None) -> None:
    """One line, appended whole."""
    line: dict[str, Any] = {"event": event, "n": n, "pid": os.getpid()}
    if context is not None:
        line |= {"attempt": context.attempt, "id": context.job_id}
    with Path(os.environ["JOBS_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


@app.job(queue=work)
async def quick(ctx: Context, n: int) -> int:
    """Done at once."""
    note("done", n, ctx)
    return n * 2


@app.job(queue=work, at_most_once=True)
async def hold_once(ctx: Context, n: int) -> None:
    """Runs until it is ended; acked before."""
    note("started", n, ctx)
    await asyncio.Event().wait()


@app.job(queue=work)
async def hold(ctx: Context, n: int) -> None:
    """Runs until it is cancelled, or the file `<ledger>.go` is there."""
    note("started", n, ctx)
    go = Path(os.environ["JOBS_LEDGER"] + ".go")
    try:
        await until(go.exists, "the file is there", timeout=300)
    except asyncio.CancelledError:
        note("cancelled", n, ctx)
        raise
    note("done", n, ctx)


@app.job(queue=work)
async def polite(ctx: Context, n: int) -> None:
    """Runs until its worker is told to stop, and then is done."""
    note("started", n, ctx)
    await ctx.stopping.wait()
    note("done", n, ctx)


@app.job(queue=work)
async def stubborn(ctx: Context, n: int) -> None:
    """Swallows its cancellation, again and again."""
    note("started", n, ctx)
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note("swallowed", n, ctx)


@app.job(queue=work, timeout=0.3, grace=0.3)
async def ignoring(ctx: Context, n: int) -> None:
    """Ignores that its time is over."""
    await stubborn(n)


@app.job(queue=work)
async def block(n: int) -> None:
    """Blocks the event loop until the file `<ledger>.go` is there."""
    note("started", n)
    while not Path(os.environ["JOBS_LEDGER"] + ".go").exists():
        time.sleep(0.02)  # noqa: ASYNC251 - that is what it is for
    note("done", n)


@app.job(queue=work)
def blocked_thread(ctx: Context, n: int) -> None:
    """A thread that nobody can end."""
    note("started", n, ctx)
    threading.Event().wait()


@app.job(queue=work)
def forked(ctx: Context, n: int) -> None:
    """Starts a process, as a pool does, and ends it."""
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join(20)
    end = time.monotonic() + 20
    while process.exitcode is None and time.monotonic() < end:
        time.sleep(0.01)  # another job's start has collected it, and is about to say so
    note("done" if process.exitcode == -signal.SIGTERM else f"exit {process.exitcode}", n, ctx)


@app.job(queue=work)
def spin(n: int) -> None:
    """Holds the processor for that many tenths of a second, in its thread."""
    end = time.monotonic() + n / 10
    while time.monotonic() < end:
        pass


leaked: list[bytes] = []


@app.job(queue=work)
async def leak(n: int) -> None:
    """Keeps so many MiB for good."""
    leaked.append(os.urandom(1) * (n * 2**20))


@app.job(queue=work)
async def fail(n: int, secret: str = "") -> None:
    """Raises."""
    raise ValueError(f"job {n} cannot be done")


@app.job(queue=lanes)
async def urgent(n: int) -> None:
    """On the queue with priorities."""
    note("done", n)


class Album(BaseModel):
    """A job that is a method."""

    name: str

    @app.job(queue=work)
    async def publish(self, n: int) -> str:
        """Says what it is."""
        note("done", n)
        return f"{self.name} {n}"
