"""Publishers of event loops that come and go: `asyncio.run`, asgiref's `async_to_sync`."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import tracemalloc
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import uvloop

from amqpjobs import App
from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.embedded.thread import LoopThread
from amqpjobs.client.publisher import Publisher
from amqpjobs.state.status.reader import statuses_of
from tests.support.programs import KEPT, ROOT
from tests.support.workers import app_at

ROUNDS = 50


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """aiormq and asyncio tell of what is cancelled when a loop ends; pytest would keep it."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def broker() -> Iterator[Broker]:
    """On an event loop of its own."""
    with LoopThread("broker") as thread:
        made = Broker("4.3", port=0)
        thread.run(made.__aenter__())
        yield made
        thread.run(made.__aexit__(None, None, None))


def numbers(url: str) -> tuple[App, Any]:
    app = app_at(url)

    @app.job(queue="numbers")
    async def number(n: int) -> None: ...

    return app, number


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def run_by_uvloop(coroutine: Any) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


@pytest.fixture
def publishers(monkeypatch: pytest.MonkeyPatch) -> "weakref.WeakSet[Publisher]":
    """All that are still there."""
    made: weakref.WeakSet[Publisher] = weakref.WeakSet()
    opened = Publisher.open

    async def open_and_note(self: Publisher) -> None:
        made.add(self)
        await opened(self)

    monkeypatch.setattr(Publisher, "open", open_and_note)
    return made


@pytest.mark.parametrize("run", [asyncio.run, run_by_uvloop])
@pytest.mark.filterwarnings("default")
def test_loops_that_come_and_go_leave_nothing_behind(
    broker: Broker, publishers: "weakref.WeakSet[Publisher]", run: Callable[[Any], Any]
) -> None:
    """No publisher, no socket, no connection but the last one's."""
    app, number = numbers(broker.url)
    for n in range(3):
        run(number.later(n))
    gc.collect()
    before = descriptors()
    for n in range(ROUNDS):
        run(number.later(n))
    gc.collect()
    assert len(publishers) <= 2
    assert repr(app.client._publishers) == "<Publishers of tests: 1 open>"
    assert descriptors() <= before + 5


def test_loops_that_are_closed_by_hand_leave_no_connection_behind() -> None:
    """Nothing is cancelled there, and asyncio complains of what is pending: in a program of its
    own. What it prints are the descriptors and the connections that there are too many."""
    code = """
import asyncio, gc, os
from tests.unit.client.test_publishers import Broker, LoopThread, descriptors, numbers

def run_and_close(coroutine):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()

with LoopThread("broker") as thread:
    broker = Broker("4.3", port=0)
    thread.run(broker.__aenter__())
    app, number = numbers(broker.url)
    run_and_close(number.later(0))
    before = descriptors()
    for n in range(20):
        run_and_close(number.later(n))
    gc.collect()
    print(descriptors() - before < 10, repr(app.client._publishers), flush=True)
    os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=KEPT, capture_output=True, text=True,
        timeout=40, check=False,
    )  # fmt: skip
    assert done.stdout == "True <Publishers of tests: 1 open>\n", done.stderr


@pytest.mark.filterwarnings("default")
def test_loops_that_come_and_go_leave_no_memory_behind(broker: Broker) -> None:
    """A message is kept here, since the broker is, 4 to 12 KiB; a publisher would be 90 KiB."""
    _, number = numbers(broker.url)

    def used() -> int:
        for n in range(ROUNDS):
            asyncio.run(number.later(n))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = used()
        assert (used() - before) / ROUNDS < 30 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("default")
def test_threads_with_loops_of_their_own_do_not_disturb_each_other(broker: Broker) -> None:
    """As `async_to_sync` in a server with threads: each drops what others have closed."""
    app, number = numbers(broker.url)
    meeting = threading.Barrier(8)

    async def send(n: int) -> str:
        async def meet() -> str:
            handle = await number.later(n)
            return str(handle.id)

        return await meet()

    def several(thread: int) -> list[str]:
        meeting.wait(20)
        return [asyncio.run(send(thread * 10 + n)) for n in range(5)]

    with ThreadPoolExecutor(8) as threads:
        ids = [one for many in threads.map(several, range(8)) for one in many]
    assert len(set(ids)) == 40
    asyncio.run(number.later(0))
    assert repr(app.client._publishers) == "<Publishers of tests: 1 open>"


def test_stores_of_loops_that_come_and_go_are_dropped(tmp_path: Path) -> None:
    """One that is open holds its loop, and would never be collected."""
    app = app_at("amqp://127.0.0.1:1", store_url=f"sqlite:///{tmp_path}/status.db")
    held: list[object] = []

    async def ask() -> None:
        await app.status("unknown")
        reader = statuses_of(app.client)._reader()
        reader.held = asyncio.get_running_loop()  # type: ignore[attr-defined]
        held.append(weakref.ref(reader))

    for _ in range(3):
        asyncio.run(ask())
    gc.collect()
    assert [reference() is not None for reference in held] == [False, False, True]  # type: ignore[operator]


def test_the_publisher_of_a_loop_that_is_open_stays(broker: Broker) -> None:
    """Another loop's end does not take it."""
    app, number = numbers(broker.url)
    with asyncio.Runner() as runner, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runner.run(number.later(1))
        first = runner.run(app.client.publisher())
        asyncio.run(number.later(2))
        asyncio.run(number.later(3))
        assert runner.run(app.client.publisher()) is first
        runner.run(number.later(4))
        runner.run(app.close())
