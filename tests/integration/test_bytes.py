"""Bytes on real brokers: in a message, a reply, a process, and in the status."""

import os
from typing import Any

from tests.support import carried_jobs
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at, working

RAW = bytes(range(256))


async def test_bytes_are_answered_as_they_came(broker: VirtualHost) -> None:
    """From the event loop and from a thread."""
    app = app_at(broker.url)

    @app.job(queue="work")
    async def job(data: bytes, more: dict[str, list[bytes]]) -> list[bytes]:
        return [data, *more["a"]]

    @app.job(queue="work")
    def thread(data: bytes) -> bytes:
        return data[::-1]

    async with app.lifespan(), working(app):
        assert await job.request(RAW, {"a": [b"\xff", b""]}) == [RAW, b"\xff", b""]
        assert await thread.request(RAW) == RAW[::-1]


async def test_bytes_go_into_a_process_and_back(broker: VirtualHost) -> None:
    """As JSON there, too."""
    with carried_jobs.app.placed(settings=app_at(broker.url).settings):
        async with carried_jobs.app.lifespan(), working(carried_jobs.app):
            said: dict[str, Any] = await carried_jobs.reversed_bytes.request(RAW)
    assert said["data"] == RAW[::-1]
    assert int(said["pid"]) != os.getpid()
