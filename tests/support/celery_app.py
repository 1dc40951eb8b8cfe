"""A shop on Celery: an app with tasks, for workers and producers in processes of their own.

`CELERY_URL` names the broker, `CELERY_TYPE` the type of its queues, `CELERY_LEDGER` the file that
tasks write into: one JSON object a line.
"""

import json
import os
from pathlib import Path
from typing import Any

from celery import Celery, Task

QUORUM = os.environ.get("CELERY_TYPE") == "quorum"

app = Celery("shop", broker=os.environ["CELERY_URL"], backend="rpc://")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"confirm_publish": True},
    task_default_queue_type="quorum" if QUORUM else "classic",
    task_default_exchange_type="topic" if QUORUM else "direct",
    worker_detect_quorum_queues=True,
    task_acks_late=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_enable_remote_control=False,  # RabbitMQ 4.3 refuses its queues
)


def note(event: str, task: Any, n: Any) -> None:
    """One line, appended whole."""
    request = task.request
    line = {"event": event, "n": n, "id": request.id, "retries": request.retries, "side": "celery"}
    with Path(os.environ["CELERY_LEDGER"]).open("a") as ledger:
        ledger.write(json.dumps(line) + "\n")


@app.task(name="shop.tasks.add", bind=True)
def add(self: Task, x: int, y: int = 1) -> int:
    note("done", self, [x, y])
    return x + y


@app.task(name="shop.tasks.show", bind=True)
def show(self: Task, *args: Any, **kwargs: Any) -> list[str]:
    note("done", self, len(args))
    return [repr(args), repr(kwargs)]


@app.task(name="shop.tasks.fail", bind=True)
def fail(self: Task) -> None:
    note("failed", self, None)
    raise ValueError("sold out", 7)


@app.task(name="shop.tasks.flaky", bind=True, max_retries=20)
def flaky(self: Task, n: int) -> int:
    """Is done at the third run that Celery makes."""
    note("run", self, n)
    if self.request.retries < 2:
        raise self.retry(countdown=1, exc=RuntimeError("not yet"))
    note("done", self, n)
    return n


@app.task(name="shop.tasks.seen", bind=True)
def seen(self: Task, *args: Any) -> None:
    """What a callback gets."""
    note("seen", self, list(args))
