"""The one place of a singleton queue: taken until nothing of its job runs, and told when free."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs import Queue
from amqpjobs.worker import singletons as module
from amqpjobs.worker.execution.outliving import Outliving
from amqpjobs.worker.flow.place import Place
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.singletons import Singletons, singletons_of

SINGLE = Queue("single", singleton=True)


def delivery(queue: str = "single", tag: int = 1, channel: object = None) -> Any:
    return SimpleNamespace(queue=queue, tag=tag, channel=channel, stale=False)


class Bench:
    """An intake with a singleton queue and another one."""

    def __init__(self) -> None:
        self.started: list[Any] = []
        queues = [SINGLE, Queue("plain")]
        self.intake = Intake(queues, 20, self.started.append)
        self.outliving = Outliving(20)
        self.recycled: list[str] = []
        self.outliving.recycle = self.recycled.append
        self.singletons = Singletons([SINGLE], self.intake, self.outliving, self.intake.open)
        self.place = self.singletons.places["single"]
        self.place.vacated.append(lambda: self.intake.open("single"))

    def end(self, given: Any) -> None:
        """The run of this delivery is over."""
        run: Any = SimpleNamespace(delivery=given)
        self.singletons.freeing(run, self.intake.finished)()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


def test_a_worker_without_one_has_none() -> None:
    """Nothing is asked of it then."""
    intake: Any = None
    outliving: Any = None
    assert singletons_of([Queue("plain")], intake, outliving, print) is None


async def test_the_next_job_starts_when_the_first_is_over(bench: Bench) -> None:
    """Though slots are free; jobs of other queues go on beside it."""
    first, second, other = delivery(tag=1), delivery(tag=2), delivery("plain")
    for each in (first, second, other):
        bench.intake.offer(each)
    assert bench.started == [first, other]
    bench.end(other)
    assert bench.started == [first, other]
    bench.end(first)
    assert bench.started == [first, other, second]
    assert bench.intake.running == 1


async def test_one_in_quarantine_counts(bench: Bench) -> None:
    """It takes no slot, and has to be let in all the same."""
    first, second = delivery(tag=1), delivery(tag=2)
    assert bench.intake.admits(first)
    assert not bench.intake.admits(second)
    bench.intake.offer(second)
    assert bench.started == []
    bench.singletons.freeing(SimpleNamespace(delivery=first), lambda: None)()  # type: ignore[arg-type]
    assert bench.started == [second]


async def test_a_handler_that_goes_on_keeps_the_place(bench: Bench) -> None:
    """Its run is over; and long after that, so is its worker."""
    first, second = delivery(tag=1), delivery(tag=2)
    go = asyncio.Event()

    async def handler() -> None:
        await go.wait()

    bench.intake.offer(first)
    task = asyncio.create_task(handler())
    bench.singletons.linger("single", task)
    bench.end(first)
    bench.intake.offer(second)
    assert bench.started == [first]
    assert bench.singletons.taken
    go.set()
    await task
    await asyncio.sleep(0)
    assert bench.started == [first, second]
    assert bench.recycled == []


async def test_one_that_does_not_end_ends_its_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other worker is given a job of the queue before."""
    monkeypatch.setattr(module, "LOST_FOR", 0.0)
    task = asyncio.create_task(asyncio.Event().wait())
    bench.singletons.linger("single", task)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert bench.recycled == ["a job of the singleton queue 'single' does not end"]
    task.cancel()


async def test_one_thread_of_it_is_enough_to_recycle(bench: Bench) -> None:
    """Of other queues half of the slots have to be taken by threads."""
    assert bench.outliving.is_dear(SimpleNamespace(queue="single"))  # type: ignore[arg-type]
    assert not bench.outliving.is_dear(SimpleNamespace(queue="plain"))  # type: ignore[arg-type]


async def test_the_connection_is_left_when_the_last_has_ended(bench: Bench) -> None:
    """Once."""
    closed: list[int] = []

    async def close() -> None:
        closed.append(1)

    first = delivery()
    bench.intake.offer(first)
    bench.singletons.when_free(close)
    await asyncio.sleep(0)
    assert closed == []
    bench.end(first)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert closed == [1]


class TestWithholding:
    """What may be given back while something runs."""

    def test_only_the_delivery_of_the_one_job(self) -> None:
        """Not what waits behind it, nor the same tag of another channel."""
        here: Any = object()
        other: Any = object()
        place = Place("single")
        assert not place.withholds(here, 1)
        place.enter(delivery(tag=1, channel=here))
        assert not place.withholds(here, 1)
        assert place.withholds(here, 2)
        assert place.withholds(other, 1)
        place.leave()
        assert not place.withholds(here, 2)

    def test_nothing_while_a_handler_or_a_thread_goes_on(self) -> None:
        """Also not its own."""
        here: Any = object()
        place = Place("single")
        place.enter(delivery(tag=1, channel=here))
        place.linger("task")
        assert place.withholds(here, 1)
        place.end("task")
        place.threads = lambda: True
        assert place.withholds(here, 1)
