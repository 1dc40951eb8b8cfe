"""Finding the broker by its name, whatever the handlers do with asyncio's own threads."""

import ast
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import amqpjobs
from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.rabbitmq.addresses import addresses_of
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.settings import load_settings

PACKAGE = Path(amqpjobs.__file__).parent

COMMANDS = {"cli/doctor/command.py", "client/deadletters/export.py", "demo/show.py"}
"""Of processes that run no jobs."""

OWN = {"state/store/durable.py"}
"""Whose executor is its own."""


async def test_jobs_that_fill_the_default_executor_do_not_keep_a_worker_from_connecting() -> None:
    """The broker's name is resolved while every thread of the default executor is taken."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(2))
    release = threading.Event()
    jobs = [loop.run_in_executor(None, release.wait) for _ in range(4)]
    try:
        async with Broker() as broker:
            url = f"amqp://guest:guest@localhost:{broker.port}/%2F"
            link = Link(load_settings(url=url, connect_timeout=5.0), "consume")
            wire = await link.connect()
            assert not wire.lost.is_set()
            await link.close()
    finally:
        release.set()
        await asyncio.gather(*jobs)


async def test_an_address_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of them are in the URL as they are, in tests and on one's own machine."""
    monkeypatch.setattr(threading.Thread, "start", None)
    assert await addresses_of("127.0.0.1", 5672) == ["127.0.0.1"]
    assert await addresses_of("::1", 5672) == ["::1"]


async def test_a_machine_without_room_for_a_thread_is_an_os_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is tried again, as a broker that is away."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(OSError, match="no thread could be started"):
        await in_own_thread(lambda: None, "it")


async def test_what_a_call_raises_is_raised() -> None:
    """And its result returned."""
    assert await in_own_thread(lambda: 7, "it") == 7
    with pytest.raises(ValueError, match="wrong"):
        await in_own_thread(lambda: int("wrong"), "it")


def test_nothing_of_ours_waits_in_the_default_executor() -> None:
    """Commands do, which run no jobs."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        name = str(file.relative_to(PACKAGE))
        for node in ast.walk(ast.parse(file.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called == "asyncio.to_thread" or called.endswith("run_in_executor"):
                found.append(name)
    assert set(found) <= COMMANDS | OWN
