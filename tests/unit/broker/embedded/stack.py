"""The real stack on an embedded broker: an app, a worker, and what became of its jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from amqpjobs import App
from amqpjobs.broker.embedded import Broker
from amqpjobs.errors import NotConfirmed
from amqpjobs.worker.worker import Worker
from tests.support.waiting import until
from tests.support.workers import app_at, working


class Stack:
    """An app with one job, and its ledger.

    Attributes:
        confirmed: the numbers that the broker has confirmed.
        unknown: those of which nobody can say whether the broker has them.
        done: the numbers that the job was run with, in order, each as often as it was.
    """

    def __init__(self, broker: Broker, **settings: Any) -> None:
        self.broker = broker
        self.app: App = app_at(broker.url, **settings)
        self.confirmed: set[int] = set()
        self.unknown: set[int] = set()
        self.done: list[int] = []
        self.started: list[int] = []
        self.go = asyncio.Event()
        self.go.set()

        @self.app.job(queue="work")
        async def job(n: int) -> None:
            self.started.append(n)
            await self.go.wait()
            self.done.append(n)

        self.job = job

    async def send(self, *numbers: int) -> None:
        """Publish, one after the other; a confirm that does not come is noted."""
        for n in numbers:
            try:
                await self.job.later(n)
            except NotConfirmed:
                self.unknown.add(n)
            else:
                self.confirmed.add(n)

    async def nothing_lost(self) -> None:
        """Wait until every confirmed job is done, and see that the queues are empty."""
        await until(lambda: self.confirmed <= set(self.done), "all that was confirmed is done")
        assert set(self.done) <= self.confirmed | self.unknown
        await until(lambda: not self.held(), "the queues are empty, the dead letters among them")

    def held(self) -> dict[str, int]:
        """The messages that the broker still holds for jobs, by queue."""
        queues = self.broker.virtual_host.queues
        counts = {n: q.ready + q.unacked for n, q in queues.items() if n.startswith("work")}
        return {name: count for name, count in counts.items() if count}


@asynccontextmanager
async def running(broker: Broker, **settings: Any) -> AsyncIterator[tuple[Stack, Worker]]:
    """A stack and its worker, which consumes."""
    stack = Stack(broker, **settings)
    async with stack.app.lifespan(), working(stack.app) as worker:
        yield stack, worker
