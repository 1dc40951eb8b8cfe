"""Jobs that run in processes, threads and quarantine, and are asked for their results."""

import os
import threading
import time
from typing import Any

from amqpjobs import App, Queue, Retry
from tests.support import workers

app = App("asked", retry=Retry(attempts=1))
classic = Queue("asked.classic", type="classic")
started = threading.Event()
go = threading.Event()


def app_at(url: str) -> App:
    """The app, on that broker."""
    app.configure(**workers.app_at(url).settings.model_dump(exclude_unset=True))
    return app


def own_pid() -> int:
    """Of the process that asks."""
    return os.getpid()


@app.job(queue="asked", cpu=True)
def square(n: int) -> int:
    """In a process."""
    return n * n


@app.job(queue="asked", cpu=True)
def refuse(n: int) -> int:
    """Fails in its process."""
    raise ValueError("not seven")


@app.job(queue="asked", cpu=True)
def forever() -> None:
    """Ends when it is killed."""
    while True:
        time.sleep(1)


@app.job(queue="asked")
def in_thread() -> None:
    """Nobody can end it."""
    started.set()
    go.wait(60)


@app.job(queue=classic)
async def suspect(n: int) -> tuple[int, int]:
    """Says where it ran."""
    return os.getpid(), n * n


@app.job(queue=classic)
async def suspect_of_anything() -> Any:
    """Returns what cannot leave its process."""
    return threading.Lock()
