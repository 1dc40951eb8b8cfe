"""No task of a worker, a recorder or a publisher ends early unnoticed."""

import asyncio
from typing import Any

import pytest

from amqpjobs import App, Queue
from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.rabbitmq.background import BackgroundTask, TaskEnded, lasting
from amqpjobs.settings import load_settings
from amqpjobs.worker import Worker
from tests.support.waiting import PATIENCE, until

NEVER_END = [
    "amqpjobs consuming link",
    "amqpjobs watchdog",
    "amqpjobs presence",
    "amqpjobs liveness",
    "amqpjobs consumer work",
    "amqpjobs pausing",
    "amqpjobs pausing work",
    "amqpjobs control",
    "amqpjobs holds",
    "amqpjobs blocked loop",
]

MAY_END = {"amqpjobs parking", "amqpjobs announcement"}


def cancel_from_inside(task: "asyncio.Task[Any]") -> None:
    """Raise what a library raises in it, when its future was cancelled: nobody told it to end."""
    task.cancel()
    task.uncancel()


def tasks() -> dict[str, "asyncio.Task[Any]"]:
    return {task.get_name(): task for task in asyncio.all_tasks()}


@pytest.mark.parametrize("name", NEVER_END)
async def test_a_worker_ends_loudly_when_one_of_its_tasks_does(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It gives back what it holds, and its run raises an error that names the task."""
    async with Broker() as broker:
        app = App("duties", settings=load_settings(url=broker.url))
        release = asyncio.Event()

        @app.job(queue=Queue("work"))
        async def work() -> None:
            await release.wait()

        worker = Worker(app, concurrency=1, prefetch=2)
        running = asyncio.create_task(worker.run())
        await worker.started()
        async with app.lifespan():
            for _ in range(3):
                await work.later()
            await until(lambda: "1 running, 1 waiting" in repr(worker), "it holds two")
            await (
                worker._consuming.control.ready()
            )  # not in a call to the broker, which is tried again
            await until(lambda: worker._consuming.holds.looks, "it has looked at what is paused")
            cancel_from_inside(tasks()[name])
            await until(lambda: "task ended, stopping the worker" in caplog.messages, "it stops")
            release.set()
            await asyncio.wait([running], timeout=PATIENCE)
        with pytest.raises(TaskEnded, match=name):
            running.result()
        if name != "amqpjobs consuming link":  # else there is nobody to give it back to
            assert "job released" in caplog.messages


async def test_every_task_of_a_worker_is_known_here() -> None:
    """A new one is added to this list."""
    async with Broker() as broker:
        app = App("duties", settings=load_settings(url=broker.url))

        @app.job(queue=Queue("work"))
        async def work() -> None:
            return None

        worker = Worker(app)
        running = asyncio.create_task(worker.run())
        await worker.started()
        await until(lambda: not MAY_END & set(tasks()), "those that end have ended")
        own = {name for name in tasks() if name.startswith("amqpjobs ")}
        worker.stop()
        await running
    publishing = {"amqpjobs publishing link", "amqpjobs publication", "amqpjobs announcements"}
    assert own - publishing == set(NEVER_END)


async def test_a_task_that_returns_too_early_is_an_error() -> None:
    """Unless it may."""

    async def returns() -> None:
        return None

    with pytest.raises(TaskEnded, match="'it' has returned"):
        await lasting(returns, "it")
    await lasting(returns, "it", returns=True)
    await lasting(returns, "it", over=lambda: True)


@pytest.mark.parametrize("how", ["cancelled", "crashed"])
async def test_a_background_task_is_started_again(
    how: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A publisher lives in a process that is not ours to end."""
    monkeypatch.setattr("amqpjobs.broker.rabbitmq.background.FIRST_PAUSE", 0.01)
    began: list[asyncio.Event] = []

    async def run() -> None:
        began.append(asyncio.Event())
        await began[-1].wait()
        raise ValueError("a bug")

    task = BackgroundTask(run, "the task")
    await until(lambda: began, "it runs")
    if how == "crashed":
        began[0].set()
    else:
        cancel_from_inside(tasks()["the task"])
    await until(lambda: len(began) == 2, "it runs again")
    assert caplog.messages == ["background task crashed, starting it again"]
    await task.stop()
    assert "the task" not in tasks()
