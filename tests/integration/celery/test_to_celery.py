"""Tasks that Celery's workers run, called from amqpjobs: real workers of Celery 5."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from amqpjobs.contrib.celery import CeleryTasks
from amqpjobs.errors import JobFailed, MessageTooLarge, ReplyTimeout, Unroutable
from tests.support.brokers.broker_server import VirtualHost
from tests.support.celery_programs import Shop
from tests.support.waiting import until
from tests.support.workers import app_at


class Order(BaseModel):
    id: int


@pytest.mark.parametrize("type_", ["classic", "quorum"])
async def test_a_worker_of_celery_runs_what_amqpjobs_sends(
    broker: VirtualHost, tmp_path: Path, type_: str
) -> None:
    """Sent and confirmed, with all options; and called, with the result, or the error that it
    raised, over Celery's own retries."""
    shop = Shop(broker.url, type_, tmp_path)
    app = app_at(broker.url, exceptions=[ValueError])
    tasks = CeleryTasks(app)
    async with app.lifespan(), shop.worker():
        sent = await tasks.send_task("shop.tasks.add", (2, 3))
        await until(lambda: shop.lines(id=sent, n=[2, 3]), "it has run")
        await _calls(tasks)
        await _times(tasks, shop)


async def _calls(tasks: CeleryTasks) -> None:
    assert await tasks.request_task("shop.tasks.add", (2,), {"y": 5}, returns=int) == 7
    assert await tasks.request_task("shop.tasks.flaky", (9,), timeout=20) == 9
    when = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    given: tuple[Any, ...] = (when, when.date(), Decimal("1.5"), b"\xff", Order(id=7), {3})
    args, kwargs = await tasks.request_task("shop.tasks.show", given, {"a": None}, timeout=10)
    assert args == repr((when, when.date(), Decimal("1.5"), b"\xff", {"id": 7}, [3]))
    assert kwargs == "{'a': None}"
    with pytest.raises(ValueError, match="sold out") as caught:
        await tasks.request_task("shop.tasks.fail")
    assert isinstance(caught.value.__cause__, JobFailed)


async def _times(tasks: CeleryTasks, shop: Shop) -> None:
    before = datetime.now(UTC)
    options: Any = {"countdown": 1, "headers": {"tenant": "a"}, "priority": 3}
    assert await tasks.request_task("shop.tasks.add", (1, 1), timeout=20, **options) == 2
    assert datetime.now(UTC) - before >= timedelta(seconds=1)
    eta = datetime.now(UTC) + timedelta(seconds=3)
    late = await tasks.send_task("shop.tasks.add", (1,), eta=eta, expires=1, task_id="too-late")
    assert late == "too-late"
    expired = datetime.now(UTC) - timedelta(seconds=5)
    with pytest.raises((JobFailed, ReplyTimeout)):
        await tasks.request_task("shop.tasks.add", (8,), timeout=2, expires=expired)
    await tasks.request_task("shop.tasks.add", (9,), time_limit=20, soft_time_limit=10)
    assert not shop.lines(id="too-late")
    assert not shop.lines(n=[8, 1])


async def test_what_cannot_be_sent_is_said_at_once(broker_43: VirtualHost) -> None:
    """No such queue, or too large."""
    app = app_at(broker_43.url, max_message_size=1000)
    tasks = CeleryTasks(app, queue="nowhere")
    async with app.lifespan():
        with pytest.raises(Unroutable):
            await tasks.send_task("shop.tasks.add", (2, 3))
        with pytest.raises(Unroutable):
            await tasks.request_task("shop.tasks.add", (2, 3), timeout=5)
        with pytest.raises(MessageTooLarge):
            await tasks.send_task("shop.tasks.add", ("x" * 1000,))


async def test_synchronous_code_calls_too(broker_43: VirtualHost, tmp_path: Path) -> None:
    """Through a blocking client of the app."""
    shop = Shop(broker_43.url, "classic", tmp_path)
    app = app_at(broker_43.url)
    tasks = CeleryTasks(app)
    async with shop.worker():
        with app.blocking() as client:
            blocking = tasks.blocking(client)
            assert blocking.request_task("shop.tasks.add", (2, 3), returns=int) == 5
            sent = blocking.send_task("shop.tasks.add", (5, 5))
        await until(lambda: shop.lines(id=sent, n=[5, 5]), "it has run")
