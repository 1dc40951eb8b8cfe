"""An app with a singleton queue, for workers in processes of their own.

Its jobs write a line when they begin, while they run, and when they end: `overlaps_of` reads from
these whether two of them ever ran at once.
"""

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from amqpjobs import App, Context, Queue, Retry

app = App("single", retry=Retry(attempts=3, first=0.2, limit=0.2, jitter=False))
single = Queue("single", singleton=True)


def note(event: str, n: int) -> None:
    """One line, appended whole."""
    line = {"event": event, "n": n, "pid": os.getpid(), "at": time.monotonic()}
    with Path(os.environ["JOBS_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


@app.job(queue=single)
async def turn(n: int, seconds: float = 0.02) -> None:
    """Takes so long; notes its cancellation, and cleans up for a while."""
    note("begin", n)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(0.01)
            note("runs", n)
    except asyncio.CancelledError:
        await asyncio.sleep(0.1)
        note("cancelled", n)
        raise
    note("end", n)


@app.job(queue=single)
async def stubborn(n: int) -> None:
    """Swallows its cancellation."""
    note("begin", n)
    while True:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            note("swallowed", n)
        note("runs", n)


@app.job(queue=single, timeout=0.3, grace=0.2, retry=Retry(attempts=1))
async def ignoring(n: int, seconds: float) -> None:
    """Ignores that its time is over, and ends later."""
    note("begin", n)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            note("swallowed", n)
        note("runs", n)
    note("end", n)


def _in_thread(n: int, seconds: float) -> None:
    note("begin", n)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        threading.Event().wait(0.01)
        note("runs", n)
    note("end", n)


@app.job(queue=single)
def thread(n: int, seconds: float) -> None:
    """Nobody can end it."""
    _in_thread(n, seconds)


@app.job(queue=single, timeout=0.3, retry=Retry(attempts=1))
def late_thread(n: int, seconds: float) -> None:
    """Outlives its timeout."""
    _in_thread(n, seconds)


@app.job(queue=single, at_most_once=True)
async def once(n: int, seconds: float) -> None:
    """Is acked before it begins."""
    note("begin", n)
    await asyncio.sleep(seconds)
    note("end", n)


@app.job(queue=single)
async def flaky(ctx: Context, n: int) -> None:
    """Succeeds the second time."""
    note("begin", n)
    await asyncio.sleep(0.02)
    note("end", n)
    if ctx.attempt == 1:
        raise ValueError("not yet")


def overlaps_of(lines: Iterable[Mapping[str, Any]], killed: Iterable[int] = ()) -> list[str]:
    """Where a job of another process, or another job, ran while one did. Processes that were killed
    have no more to say from then on: their last line is their end."""
    rows = list(lines)
    last = {pid: max((i for i, r in enumerate(rows) if r["pid"] == pid), default=-1)
            for pid in killed}  # fmt: skip
    found = []
    running: tuple[int, int] | None = None
    for i, row in enumerate(rows):
        own = row["pid"], row["n"]
        if running is not None and own != running:
            found.append(f"{row['event']} of {own} while {running} ran, line {i}")
        running = own
        if row["event"] in ("end", "cancelled") or last.get(row["pid"]) == i:
            running = None
    return found
