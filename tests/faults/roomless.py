"""The app of the tests of a worker without room: a job that uses it up, and innocents."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from amqpjobs import App, Context, Queue, Retry
from amqpjobs.worker import room
from tests.faults.jobs import note

room.LONGEST = float(os.environ.get("FAULTS_LONGEST", room.LONGEST))

app = App("roomless", retry=Retry(attempts=1))
work, control = Queue("work"), Queue("other")

HELD: list[int] = []
"""Descriptors that nobody gives back."""


@app.job(queue=control)
async def use_up(what: str) -> None:
    """Of this worker: there is nothing left when it returns."""
    if what == "threads":
        # More than the address space has: from now on pthread_create(3) fails.
        threading.stack_size(2**46)
        return
    while True:
        try:
            HELD.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            return


@app.job(queue=control)
async def give_back() -> None:
    """There is room again."""
    threading.stack_size(0)
    while HELD:
        os.close(HELD.pop())


@app.job(queue=work)
def thread(ctx: Context, number: int) -> None:
    note(ctx, time.time(), str(number))


@app.job(queue=work, cpu=True)
def process(ctx: Context, number: int) -> None:
    note(ctx, time.time(), str(number))


@app.job(queue=work)
async def opens(ctx: Context, number: int) -> None:
    """Needs a file, as most jobs do: to read one, or to connect."""
    Path(os.devnull).read_bytes()
    note(ctx, time.time(), str(number))


@app.job(queue=work)
async def starts(ctx: Context, number: int) -> None:
    """Needs a thread, as many libraries do."""
    own = threading.Thread(target=int)
    own.start()
    own.join()
    note(ctx, time.time(), str(number))


@app.job(queue=work)
def runs(ctx: Context, number: int) -> None:
    """Needs a process, and files for its output."""
    subprocess.run([sys.executable, "-c", ""], check=True, capture_output=True)
    note(ctx, time.time(), str(number))
