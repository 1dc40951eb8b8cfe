"""F16: jobs that kill their process. They are found, and nobody else is harmed."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest

from amqpjobs.jobs.message.message import Message
from tests.faults import poison
from tests.faults.fleet import Fleet, WorkerProcess, until
from tests.faults.ledger import Ledger
from tests.faults.publishing import Publishing, finish, leftovers
from tests.faults.stranger import Stranger
from tests.support.amqp import drain, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.brokers.brokers import Broker
from tests.support.memory_group import memory_group
from tests.support.transport import reach

pytestmark = pytest.mark.row("F16")

APP = "tests.faults.poison:app"
C, P, PROCESSES = 4, 20, 2
MEMORY = 400 * 2**20

QUARANTINED = "suspected job runs in quarantine"

DEATHS = {"3.10": 3, "4.3": 1}
"""How many workers a culprit may kill before it is suspect."""


@asynccontextmanager
async def scene(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, prefix: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Publishing, WorkerProcess]]:
    """Supervised workers, and a publisher."""
    poison.app.configure(**reach(broker.url))
    async with poison.app.lifespan():
        worker = await workers.start(
            broker.url, "work", concurrency=C, prefetch=P, app=APP,
            prefix=prefix, options=("--processes", str(PROCESSES)),
        )  # fmt: skip
        await until(lambda: len(worker.events("worker is ready")) == PROCESSES, 40, "all ready")
        yield Publishing(poison, ledger), worker  # type: ignore[arg-type]


async def batch(publisher: Publishing, messages: list[Message[Any]], dead: int = 0) -> float:
    """Publish, and wait until all but so many are done: seconds."""
    began = time.monotonic()
    assert await publisher.send_many(messages) == []
    ids = {message.id for message in messages}
    ledger = publisher.ledger
    await until(
        lambda: len(ids & ledger.done()) == len(ids) - dead, 100, "they are done", ledger.verdict
    )
    return time.monotonic() - began


def deaths(worker: WorkerProcess) -> int:
    return len(worker.events("worker process died, starting another"))


def started(ledger: Ledger) -> Counter[str]:
    """How often each culprit was started."""
    lines = (ledger.folder / poison.STARTS).read_text().splitlines()
    return Counter(json.loads(line)["id"] for line in lines)


def innocents(count: int) -> list[Message[Any]]:
    """Of both kinds in turn."""
    kinds = (poison.innocent, poison.innocent_thread)
    return [kinds[number % 2].message(number) for number in range(count)]


async def check_poison(
    broker: VirtualHost,
    workers: Fleet,
    ledger: Ledger,
    random: Random,
    culprits: list[Message[Any]],
    jobs: int,
    prefix: tuple[str, ...] = (),
    *,
    dead: frozenset[str] = frozenset(),
    deaths_before: int = 0,
    others: int = 0,
) -> int:
    """Find the culprits among so many innocents.

    Args:
        others: how many workers may die of a culprit that another one runs.
        dead: those of earlier rounds with this ledger.
        deaths_before: how many workers died in these.

    Returns:
        How many workers died.
    """
    guilty = {message.id for message in culprits}
    killers = sum(message.job != "culprit_cpu" for message in culprits)
    async with scene(broker, workers, ledger, prefix) as (publisher, worker):
        before = await batch(publisher, innocents(jobs))
        messages = innocents(jobs)
        place = random.randrange(jobs)
        messages[place:place] = culprits
        took = await batch(publisher, messages, dead=len(culprits))
        ledger.tell(f"{took:.1f} s with the culprits, {before:.1f} s without")
        poisoned = lambda: len(worker.events("job poison"))  # noqa: E731
        await until(lambda: poisoned() == len(culprits), 60, "the culprits are found")
        died = deaths(worker)
        after = await batch(publisher, innocents(jobs))
        ledger.tell(f"{after:.1f} s afterwards; {died} workers died")
        assert deaths(worker) == died
        with Stranger(broker.url) as looking:
            await until(lambda: looking.consumers("work") == PROCESSES, 40, "all are back")
        await finish(broker.url, workers, ledger, app=APP)
    assert 1 <= died <= killers * DEATHS[broker.version] + others or not killers
    starts = started(ledger)
    for message in culprits:
        # In quarantine once more if the process that died had run another suspect before.
        assert 1 <= starts[message.id] <= DEATHS[broker.version] + 2
    assert after < 3 * before + 3
    found = {m.message_id: m for m in await drain(broker.url, "work.dead")}
    assert set(found) == guilty
    for message in culprits:
        error: Any = found[message.id].headers["amqpjobs-error"]
        assert error["exception"] == "amqpjobs.errors.JobProcessDied"
        assert error["reason"] == "poison"
    ledger.check(duplicates=(deaths_before + died) * C, dead=dead | guilty)
    assert not leftovers(broker.url)
    # A process that dies may say so in words of its own.
    assert not [line for line in workers.trouble() if "text" not in line]
    return died


@pytest.mark.timeout(240)
@pytest.mark.parametrize("how", ["segfault", "exit", "kill"])
async def test_a_job_that_kills_its_process_is_found_and_nobody_else_is_harmed(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, how: str
) -> None:
    """One of 1,000: it is a dead letter with the reason, all others are done, and it goes on as
    fast as before."""
    culprits = [poison.culprit.message(how)]
    await check_poison(broker, workers, ledger, random, culprits, jobs=999)


@pytest.fixture
def little_memory() -> Iterator[tuple[str, ...]]:
    """In front of a command: 400 MiB for its processes together, and no more."""
    with ExitStack() as stack:
        try:
            prefix = stack.enter_context(memory_group(MEMORY))
        except OSError as error:
            pytest.skip(f"no control group for memory can be made here: {error}")
        yield prefix


@pytest.mark.timeout(240)
async def test_a_job_that_needs_all_memory_is_found_and_nobody_else_is_harmed(
    broker: VirtualHost,
    little_memory: tuple[str, ...],
    workers: Fleet,
    ledger: Ledger,
    random: Random,
) -> None:
    """The kernel ends the largest process of the group: the worker first, then the quarantine. It
    may take one more before the memory of the first is free: an innocent one."""
    culprits = [poison.culprit.message("memory")]
    await check_poison(
        broker, workers, ledger, random, culprits, 299, little_memory, others=PROCESSES
    )


@pytest.mark.timeout(240)
async def test_three_culprits_at_once(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """An ``async def``, a thread and a process, side by side: each is found."""
    culprits = [
        poison.culprit.message("segfault"),
        poison.culprit_thread.message("exit"),
        poison.culprit_cpu.message("kill"),
    ]
    await check_poison(broker, workers, ledger, random, culprits, jobs=300)


async def test_a_suspect_publishes_as_it_would_anywhere(
    broker: VirtualHost, workers: Fleet, ledger: Ledger
) -> None:
    """A job that enqueues another one does so from quarantine too."""
    poison.app.configure(**reach(broker.url))
    async with poison.app.lifespan():
        await poison.chained.later(1)
        for _ in range(DEATHS[broker.version]):
            async with stranger(broker.url) as channel:
                queue = await channel.get_queue("work", ensure=False)
                assert await queue.get(timeout=10)
        worker = await workers.start(broker.url, "work", app=APP)
        await until(lambda: len(ledger.effects()) == 2, 40, "both are done")
    assert [line["job"] for line in worker.events(QUARANTINED)] == ["chained"]
    assert len({effect.pid for effect in ledger.effects()} - {worker.pid}) == 1
    await workers.stop()
    assert not workers.trouble()


@pytest.mark.timeout(240)
async def test_a_worker_that_lost_its_connection_suspects_nothing_that_it_held(
    own_broker_43: Broker, workers: Fleet, ledger: Ledger
) -> None:
    """RabbitMQ counts a lost connection as a sudden death; who lived through it knows better."""
    poison.app.configure(**reach(own_broker_43.url))
    async with poison.app.lifespan():
        publisher = Publishing(poison, ledger)  # type: ignore[arg-type]
        worker = await workers.start(
            own_broker_43.url, "work", concurrency=C, prefetch=P, app=APP,
            AMQPJOBS_RECONNECT_LIMIT=1,
        )  # fmt: skip
        messages = [poison.innocent.message(number, 1.0) for number in range(30)]
        assert await publisher.send_many(messages) == []
        await until(lambda: len(ledger.done()) >= C, 20, "some are done")
        await asyncio.to_thread(own_broker_43.stop_app)
        await asyncio.to_thread(own_broker_43.start_app)
        await publisher.all_done(60)
        await finish(own_broker_43.url, workers, ledger, app=APP)
    assert worker.events("consumer lost")
    assert not worker.events(QUARANTINED)
    ledger.check(duplicates=C)


@pytest.mark.faults_full
@pytest.mark.timeout(3600)
async def test_many_culprits(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form: ten times, one of 1,000 each time."""
    dead: frozenset[str] = frozenset()
    died = 0
    for how in (*("segfault", "exit", "kill") * 3, "segfault"):
        culprit = random.choice((poison.culprit, poison.culprit_thread)).message(how)
        async with asyncio.timeout(400):
            died += await check_poison(
                broker, workers, ledger, random, [culprit], 999, dead=dead, deaths_before=died
            )
        dead |= {culprit.id}
