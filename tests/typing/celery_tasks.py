"""Celery's tasks as type checkers see them: see `api.py`."""

from datetime import UTC, datetime, timedelta
from typing import Any, assert_type

from pydantic import BaseModel

from amqpjobs import App, Context, JobHandle, Queue
from amqpjobs.contrib.celery import BlockingCeleryTasks, CeleryTask, CeleryTasks

app = App("typing_celery")
queue = Queue("celery", type="classic", foreign=True)


class Total(BaseModel):
    cents: int


@app.job(queue=queue, body=CeleryTask, name="shop.tasks.add")
async def add(ctx: Context, x: int, y: int = 1) -> int:
    return x + y


@app.job(queue=queue, body=CeleryTask(), name="shop.tasks.show")
def show(x: int) -> str:
    return str(x)


tasks = CeleryTasks(app, queue="celery")


async def right() -> None:
    assert_type(await add.later(2, y=3), JobHandle[int])
    assert_type(await tasks.send_task("a", (1, "x"), {"k": None}, countdown=5), str)
    assert_type(await tasks.send_task("a", queue="b", eta=datetime.now(UTC), timeout=2), str)
    assert_type(await tasks.request_task("a", [1], timeout=timedelta(seconds=5)), Any)
    assert_type(await tasks.request_task("a", returns=int, expires=60, priority=3), int)
    assert_type(await tasks.request_task("a", returns=Total), Total)


def blocking() -> None:
    with app.blocking() as client:
        assert_type(tasks.blocking(client), BlockingCeleryTasks)
        assert_type(tasks.blocking(client).send_task("a", (1,), task_id="7"), str)
        assert_type(tasks.blocking(client).request_task("a", (1,), returns=int), int)


async def wrong() -> None:
    await add.later("2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await tasks.send_task("a", countdown="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await tasks.send_task("a", zombie=5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await tasks.send_task(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
