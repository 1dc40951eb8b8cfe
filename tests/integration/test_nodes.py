"""A URL with several nodes, on real servers."""

import socket
from urllib.parse import urlsplit

import pytest

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import load_settings
from tests.support.brokers.broker_server import VirtualHost
from tests.support.waiting import until
from tests.support.workers import app_at, working

PASSED_OVER = "node unavailable, trying another"


def dead_port() -> int:
    """Where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def twice(url: str, *, password: str = "guest", vhost: str | None = None) -> str:
    """The same server by two hosts."""
    parts = urlsplit(url)
    hosts = f"127.0.0.1:{parts.port},localhost:{parts.port}"
    return f"amqp://guest:{password}@{hosts}{parts.path if vhost is None else vhost}"


async def test_jobs_run_with_a_node_that_is_gone(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Published and consumed by the other one."""
    parts = urlsplit(broker.url)
    dead = dead_port()
    app = app_at(f"amqp://guest:guest@127.0.0.1:{dead},127.0.0.1:{parts.port}{parts.path}")
    done: list[int] = []

    @app.job(queue="work")
    async def job(n: int) -> None:
        done.append(n)

    async with working(app):
        await job.later(7)
        await until(lambda: done == [7], "it is done")
    passed = [vars(record)["node"] for record in caplog.records if record.msg == PASSED_OVER]
    assert set(passed) <= {f"127.0.0.1:{dead}"}


async def test_a_refused_login_is_one_attempt(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one for each node."""
    link = Link(load_settings(url=twice(broker.url, password="hunter2")), "consume")
    with pytest.raises(BrokerUnavailable, match="refused the login") as caught:
        await link.connect()
    assert not caught.value.temporary
    assert "hunter2" not in str(caught.value)
    answered = [vars(r)["error"] for r in caplog.records if r.msg == PASSED_OVER]
    assert not [error for error in answered if "login" in error]


async def test_a_missing_virtual_host_is_looked_for_on_every_node(
    broker: VirtualHost, caplog: pytest.LogCaptureFixture
) -> None:
    """And then told, for good."""
    link = Link(load_settings(url=twice(broker.url, vhost="/none")), "consume")
    with pytest.raises(BrokerUnavailable, match="check the virtual host") as caught:
        await link.connect()
    assert "127.0.0.1:" in str(caught.value)
    assert "localhost:" in str(caught.value)
    assert [r for r in caplog.records if r.msg == PASSED_OVER]
