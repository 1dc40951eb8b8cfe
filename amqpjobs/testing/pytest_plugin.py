"""The plugin for pytest: a broker, and workers on it, as fixtures. It is found by itself.

Nothing is used that a test does not ask for, and what takes long to import is imported then.
Changes when there is another fixture.
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

try:
    from pytest_asyncio import fixture as _asyncio_fixture
except ImportError:  # then anyio's own plugin is there, or no asynchronous tests are
    _asyncio_fixture = pytest.fixture  # type: ignore[assignment]

if TYPE_CHECKING:
    from amqpjobs.broker.embedded import Broker
    from amqpjobs.testing.workers import Workers


@pytest.fixture
def amqpjobs_broker(request: pytest.FixtureRequest) -> "Iterator[Broker]":
    """A fresh embedded broker, in a thread of its own; `url` says where it is.

    Nothing is pointed at it: give its URL to what is to use it. It acts as RabbitMQ 4.3;
    ``@pytest.mark.parametrize("amqpjobs_broker", ["3.10", "4.3"], indirect=True)`` says otherwise.
    """
    from amqpjobs.broker.embedded import Broker

    with Broker.in_thread(getattr(request, "param", "4.3")) as broker:
        yield broker


@pytest.fixture
def amqpjobs_worker(request: pytest.FixtureRequest) -> "Workers":
    """Starts workers on `amqpjobs_broker`: ``worker = await amqpjobs_worker(app, ["queue"])``.

    From then on the app is on that broker, and the worker runs its jobs, until the test ends.
    """
    anyio = "anyio_backend" in request.fixturenames
    workers: Workers = request.getfixturevalue(
        "_amqpjobs_workers_of_anyio" if anyio else "_amqpjobs_workers"
    )
    return workers


async def _workers(amqpjobs_broker: "Broker") -> "AsyncIterator[Workers]":
    from amqpjobs.testing.workers import Workers

    workers = Workers(amqpjobs_broker.url)
    try:
        yield workers
    finally:
        await workers.stop()


# Each of the two plugins for asynchronous tests takes only what was made for it.
_amqpjobs_workers_of_anyio = pytest.fixture(name="_amqpjobs_workers_of_anyio")(_workers)
_amqpjobs_workers = _asyncio_fixture(name="_amqpjobs_workers")(_workers)
