"""An app for the web tests: what its jobs take is what callers get wrong."""

import socket
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from pydantic import BaseModel, Field

from amqpjobs import App, Queue
from tests.support.brokers.broker_server import VirtualHost
from tests.support.web import served
from tests.support.workers import app_at


class Order(BaseModel):
    """What is ordered."""

    id: Annotated[int, Field(ge=1)]
    email: str
    secret: str = ""


class Teapot(Exception):
    """An exception that callers get as it is."""


def shop_at(url: str, **settings: object) -> App:
    """A shop: receipts, a queue with priorities, jobs without arguments, jobs that fail. There is
    no store, unless a test says where."""
    given = {"store_url": "sqlite:////nowhere/status.db", **settings}
    app = app_at(url, exceptions=(Teapot,), **given)
    lanes = Queue("lanes", priorities={"high": 2, "low": 1})

    @app.job(queue="receipts")
    async def send_receipt(order: Order) -> str:
        """Send a receipt."""
        return f"sent to {order.email}"

    @app.job(queue="receipts", keep_result=True)
    async def add(a: int, b: int = 1) -> int:
        return a + b

    @app.job(queue="receipts")
    async def nothing() -> None:
        return None

    @app.job(queue=lanes)
    async def urgent(n: int) -> int:
        return n

    @app.job(queue="receipts")
    async def fail(words: str) -> None:
        raise ValueError(words)

    return app


@pytest.fixture
def shop(broker: VirtualHost) -> App:
    """On every version in turn."""
    return shop_at(broker.url, management_url=broker.server.management_url)


@pytest.fixture
def shop_43(broker_43: VirtualHost) -> App:
    """For what does not depend on the broker's version."""
    return shop_at(broker_43.url, management_url=broker_43.server.management_url)


@pytest.fixture
async def client(shop_43: App) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the shop's API."""
    async with served(shop_43) as opened:
        yield opened


@pytest.fixture
def unused_tcp_port() -> int:
    """Where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
