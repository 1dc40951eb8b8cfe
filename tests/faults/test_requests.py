"""F27: requests, while workers are killed, the caller is cut off, and many run out of time.

Every request ends once: in its own result, in its own error, or in a typed error that there is
none. Nothing is left in the map of what waits.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from amqpjobs import App, Message
from amqpjobs.errors import AmqpJobsError, JobFailed, NotConfirmed, ReplyLost, ReplyTimeout
from tests.faults.asked import Asked, build
from tests.faults.fleet import Fleet, until
from tests.faults.ledger import Ledger
from tests.faults.proxy import Proxy
from tests.faults.publishing import finish, leftovers, settings_for
from tests.faults.stranger import Stranger
from tests.support.brokers.broker_server import VirtualHost

pytestmark = pytest.mark.row("F27")

APP = "tests.faults.asked:app"
C, P = 4, 8


class Asker:
    """Asks, and keeps the books: who got what."""

    def __init__(self, jobs: Asked, ledger: Ledger) -> None:
        self.jobs = jobs
        self.ledger = ledger
        self.endings: Counter[str] = Counter()
        self.errors: list[AmqpJobsError] = []

    @property
    def replies(self) -> Any:
        assert self.app.client.opened is not None
        return self.app.client.opened.replies

    @property
    def app(self) -> App:
        return self.jobs.app

    async def ask(self, number: int, message: Message[int], timeout: float) -> None:
        """Ask once; an answer to somebody else's question fails the test."""
        try:
            result = await self.app.request(message, timeout=timeout)
        except JobFailed as error:
            assert (str(error), error.job_id) == (f"number {number}", message.id)
            self.endings["answered"] += 1
        except (ReplyTimeout, ReplyLost, NotConfirmed) as error:
            self.endings[type(error).__name__] += 1
            self.errors.append(error)
            return
        else:
            assert result == number
            assert number % 7, "its failure was an answer to somebody"
            self.endings["answered"] += 1
        self.ledger.confirm(message.id)

    async def ask_all(self, questions: Iterable[tuple[int, Message[int], float]]) -> None:
        """Ask all at once, and wait until each has ended."""
        asked = list(questions)
        self.ledger.attempt(*(message.id for _, message, _ in asked))
        await asyncio.gather(*(self.ask(*question) for question in asked))
        assert self.replies.pending == 0, self.replies


@asynccontextmanager
async def asking(url: str, ledger: Ledger, **settings: object) -> AsyncIterator[Asker]:
    """An app with an open connection, and nothing left at its end."""
    jobs = build(settings_for(url, **settings))
    async with jobs.app.lifespan():
        asker = Asker(jobs, ledger)
        yield asker
        assert asker.replies.pending == 0
        ledger.measured(", ".join(f"{n} {what}" for what, n in sorted(asker.endings.items())))


async def finished(url: str, workers: Fleet, ledger: Ledger, duplicates: int) -> None:
    """The queue is empty, no dead letter is there that nobody knows of, and the books agree."""
    await finish(url, workers, ledger, queue="asked", app=APP)
    ledger.check(duplicates=duplicates)
    assert not leftovers(url, ("asked", "asked.parked"))
    assert not workers.trouble()


async def check_kills(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, kills: int
) -> None:
    options = {"app": APP, "concurrency": C, "prefetch": P}
    async with asking(broker.url, ledger) as asker:
        serving = [await workers.start(broker.url, "asked", **options) for _ in range(2)]
        for _ in range(kills):
            calls = [
                (n, asker.jobs.answer.message(n, random.uniform(0.0, 0.2)), 60.0)
                for n in range(1, 121)
            ]
            before = len(ledger.done())
            asked = asyncio.create_task(asker.ask_all(calls))
            await until(lambda n=before: len(ledger.done()) >= n + 10, 20, "requests are answered")
            place = random.randrange(2)
            ledger.fault(f"kill -9 {serving[place].name}")
            serving[place].end()
            serving[place] = await workers.start(broker.url, "asked", **options)
            await asked
        assert asker.endings == {"answered": 120 * kills}
        await finished(broker.url, workers, ledger, duplicates=kills * C)
    with Stranger(broker.url) as stranger:
        assert stranger.ready("asked.dead") == 0


async def test_a_request_outlives_its_worker(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The job comes back to another worker, which answers: every caller gets their own."""
    await check_kills(broker, workers, ledger, random, kills=2)


@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_a_request_outlives_many_workers(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_kills(broker, workers, ledger, random, kills=40)


async def check_cuts(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, cuts: int
) -> None:
    await workers.start(broker.url, "asked", app=APP, concurrency=C, prefetch=P)
    async with (
        Proxy(broker.url) as proxy,
        asking(proxy.url, ledger, reconnect_limit=1) as asker,
    ):
        for _ in range(cuts):
            calls = [(n, asker.jobs.answer.message(n, 0.02), 60.0) for n in range(1, 201)]
            before = asker.endings["answered"]
            asked = asyncio.create_task(asker.ask_all(calls))
            enough = random.randrange(10, 100)
            await until(
                lambda n=before + enough: asker.endings["answered"] >= n, 20, "some are answered"
            )
            ledger.fault("the caller's connection is cut")
            proxy.reset_all()
            async with asyncio.timeout(10):  # not the 60 s of the requests
                await asked
            assert asker.endings["ReplyLost"] > 0
            # Afterwards all is well, on another reply queue.
            await asker.ask_all([(1, asker.jobs.answer.message(1), 30.0)])
        assert set(asker.endings) == {"answered", "ReplyLost"}
        await finished(broker.url, workers, ledger, duplicates=0)


async def test_a_cut_connection_fails_what_waits_at_once(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """With `ReplyLost`, whatever its timeout; no answer to the old queue reaches a new request."""
    await check_cuts(broker, workers, ledger, random, cuts=3)


@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_many_cut_connections_fail_what_waits_at_once(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_cuts(broker, workers, ledger, random, cuts=60)


async def check_timeouts(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random, rounds: int
) -> None:
    """10,000 at once: half are never heard, a tenth are answered about when their time is over."""
    await workers.start(broker.url, "asked", app=APP, concurrency=500, prefetch=1000)
    async with asking(broker.url, ledger) as asker:
        jobs = asker.jobs
        for _ in range(rounds):
            calls = [(n, jobs.unheard.message(n), random.uniform(0.5, 5)) for n in range(5000)]
            calls += [(n, jobs.answer.message(n), 60.0) for n in range(4000)]
            calls += [(n, jobs.answer.message(n, 1.0), random.uniform(2, 6)) for n in range(1000)]
            random.shuffle(calls)
            ledger.fault("10,000 at once, half of them unheard")
            await asker.ask_all(calls)
        assert set(asker.endings) == {"answered", "ReplyTimeout"}
        assert asker.endings["ReplyTimeout"] >= 5000 * rounds
        assert asker.endings["answered"] >= 4000 * rounds
        assert asker.endings.total() == 10_000 * rounds
        ledger.measured(f"{asker.replies.unknown} late")
        # What was asked too late to be started was acked; nothing of it is a dead letter.
        await finished(broker.url, workers, ledger, duplicates=0)


async def test_ten_thousand_at_once_and_half_run_out_of_time(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """Each ends in its own answer or its own timeout, and nothing is left."""
    await check_timeouts(broker, workers, ledger, random, rounds=1)


@pytest.mark.faults_full
@pytest.mark.timeout(1800)
async def test_a_hundred_thousand_and_half_run_out_of_time(
    broker: VirtualHost, workers: Fleet, ledger: Ledger, random: Random
) -> None:
    """The full form."""
    await check_timeouts(broker, workers, ledger, random, rounds=10)
