"""Publishing as the ledger wants it: attempted before, confirmed after, each on the disk."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from amqpjobs.errors import AmqpJobsError, PublishManyFailed
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message
from amqpjobs.settings import Settings, load_settings
from tests.faults.fleet import Fleet, until
from tests.faults.jobs import Jobs, build
from tests.faults.ledger import Ledger
from tests.faults.stranger import Stranger
from tests.support.transport import reach

QUEUES = ("work", "work.dead", "work.parked", "other", "other.dead", "other.parked")


@dataclass
class Publishing:
    """An app that publishes, and the ledger that it writes."""

    jobs: Jobs
    ledger: Ledger

    async def send(self, message: Message[Any]) -> AmqpJobsError | None:
        """Publish one message; its error if it was not confirmed."""
        self.ledger.attempt(message.id)
        try:
            await self.jobs.app.enqueue(message)
        except AmqpJobsError as error:
            self.ledger.tell(f"{message.id}: {error!r}")
            return error
        self.ledger.confirm(message.id)
        return None

    async def send_many(self, messages: Iterable[Message[Any]]) -> list[AmqpJobsError]:
        """Publish many at once; the errors of those that were not confirmed."""
        all_messages = list(messages)
        self.ledger.attempt(*(m.id for m in all_messages))
        results: list[object]
        try:
            results = list(await self.jobs.app.later_many(all_messages))
        except PublishManyFailed as error:
            results = error.results
        self.ledger.confirm(*(r.id for r in results if isinstance(r, JobHandle)))
        return [r for r in results if isinstance(r, AmqpJobsError)]

    async def flow(self, count: int, pause: float, seconds: float = 0.0) -> list[AmqpJobsError]:
        """Publish jobs one after the other, with a pause between: the errors."""
        errors = []
        for number in range(count):
            error = await self.send(self.jobs.work.message(number, seconds))
            if error is not None:
                errors.append(error)
            await asyncio.sleep(pause)
        return errors

    async def all_done(self, timeout: float, dead: Iterable[str] = ()) -> float:
        """Wait until every confirmed job has an effect."""
        return await until(
            lambda: self.ledger.confirmed <= self.ledger.done() | set(dead),
            timeout,
            "all jobs are done",
            lambda: self.ledger.verdict(dead),
        )


def settings_for(url: str, **values: object) -> Settings:
    return load_settings(**{**reach(url), **values})


@asynccontextmanager
async def publishing(url: str, ledger: Ledger, **settings: object) -> AsyncIterator[Publishing]:
    """An app with an open connection."""
    jobs = build(settings_for(url, **settings))
    async with jobs.app.lifespan():
        yield Publishing(jobs, ledger)


async def finish(
    url: str, workers: Fleet, ledger: Ledger, queue: str = "work", **options: Any
) -> None:
    """Let the workers empty the queue, and stop them.

    Second copies may still be waiting when every job has been done once. AMQP does not tell how
    many are unacked, so a worker that is told to stop too early gives some back: then another one
    is started for them.

    Args:
        options: of that one, such as its app.
    """
    for _ in range(3):
        with Stranger(url) as stranger:
            await until(lambda s=stranger: s.ready(queue) == 0, 30, f"{queue} is empty")
        await quiet(ledger)
        await workers.stop()
        if not leftovers(url, [queue]):
            return
        await workers.start(url, queue, **options)
    raise AssertionError(f"{queue} does not get empty")


async def quiet(ledger: Ledger, seconds: float = 0.7) -> None:
    """Wait until no effect was written for a while."""
    size, since = -1, time.monotonic()
    while time.monotonic() - since < seconds:
        now = ledger.effects_file.stat().st_size
        if now != size:
            size, since = now, time.monotonic()
        await asyncio.sleep(0.05)


def leftovers(url: str, queues: Iterable[str] = QUEUES[:3]) -> dict[str, int]:
    """The queues that are not empty, when nothing consumes them any more."""
    with Stranger(url) as stranger:
        counts = {queue: stranger.ready(queue) for queue in queues}
    return {queue: count for queue, count in counts.items() if count}
