"""F15: the worker dies at each named point between publishing, its confirm, and the ack."""

from collections import Counter
from random import Random

import pytest

from tests.faults import crashing
from tests.faults.crashing import CRASH, CRASHED, POINTS
from tests.faults.fleet import Fleet
from tests.faults.ledger import Ledger
from tests.faults.publishing import finish, leftovers, publishing
from tests.faults.stranger import Stranger, message_id
from tests.support.brokers.broker_server import VirtualHost

APP = "tests.faults.crashing:app"

JOBS = {
    "done": crashing.done,
    "retry": crashing.retry,
    "dead": crashing.dead,
    "later": crashing.later,
}


async def check_crashes(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, rounds: int
) -> None:
    """One worker after the other, each with a job of its own and what the last one left behind."""
    points = [point for _ in range(rounds) for point in random.sample(POINTS, len(POINTS))]
    options = {"concurrency": 2, "prefetch": 4, "app": APP}
    async with publishing(broker.url, ledger) as publisher:
        for point in points:
            assert await publisher.send(JOBS[point.partition(":")[0]].message()) is None
            # uvloop writes at the end of its turn; here the bytes have to be gone at the crash.
            worker = workers.launch(
                broker.url, "work", **options, AMQPJOBS_LOOP="asyncio", **{CRASH: point}
            )
            assert await worker.ended(40) == CRASHED, f"{point}: {worker.tail()}"
            ledger.fault(f"crashed: {point}")
        await workers.start(broker.url, "work", **options)
        with Stranger(broker.url) as stranger:
            await finish(broker.url, workers, ledger, app=APP)
            dead = [message_id(properties) for properties, _ in stranger.drain("work.dead")]
    ledger.check(duplicates=len(points), dead=dead)
    # What is no effect of a job's own id is no more often there either.
    assert sum(Counter(dead).values()) - len(set(dead)) <= len(points)
    children = Counter(e.note for e in ledger.effects() if e.note)
    parents = sum(point.startswith("later") for point in points)
    assert len(children) == parents
    assert sum(children.values()) - parents <= len(points)
    assert not leftovers(broker.url)


@pytest.mark.row("F15")
@pytest.mark.timeout(300)  # twenty workers that start, one after the other
async def test_no_crash_between_publish_and_ack_loses_a_job(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Before and after publishing, the confirm and the ack: of a job that is done, of a retry's
    copy, of a dead letter, and of a job that a handler enqueues. At most one duplicate each."""
    await check_crashes(broker, workers, ledger, random, rounds=1)


@pytest.mark.row("F15")
@pytest.mark.faults_full
@pytest.mark.timeout(3600)
async def test_no_crash_between_publish_and_ack_loses_a_job_for_long(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form: in another order each time."""
    await check_crashes(broker, workers, ledger, random, rounds=20)
