"""The worker of a test: starts jobs on request, and knows when nothing is left.

Changes when there is another reason for which a job is not started.
"""

import asyncio
from contextvars import Context as Variables
from typing import TYPE_CHECKING

from amqpjobs.testing.records import Record
from amqpjobs.worker.worker import Worker

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.vhost import VirtualHost
    from amqpjobs.client.client import HasClient

TURNS = 6
"""Of the event loop in which nothing must change until nothing is left: what was just told that it
is its time again acts within a few."""

AT_ONCE = 200
"""Looks, a turn of the event loop each, before there is a pause between two of them."""

LOOK = 0.001
"""Seconds between two looks, when a job takes its time."""


class Working(Worker):
    """Starts nothing until `go`. Use `begin` and `end` in place of `run`.

    Args:
        app: whose jobs, of all queues.
        record: called with the ending of each run.
        host: where its queues are.
        home: the context that the worker starts in. A worker does not have what a test, or its
            caller, has set since.
    """

    def __init__(
        self, app: "HasClient", record: Record, host: "VirtualHost", home: Variables
    ) -> None:
        super().__init__(app, observers=(record.ran,))
        self._host = host
        self._going = 0
        self._whole: asyncio.Task[None] | None = None
        self._home = home
        self.hold()

    async def begin(self) -> None:
        """Consume. Who comes second waits, too.

        Raises:
            AmqpJobsError: what a worker's start raises.
        """
        if self._whole is None:
            self._whole = asyncio.create_task(
                self.run(), name="amqpjobs worker of a test", context=self._home.copy()
            )
        started = asyncio.create_task(self.started())
        try:
            await asyncio.wait((started, self._whole), return_when=asyncio.FIRST_COMPLETED)
        finally:
            started.cancel()
        self._check()

    async def end(self) -> None:
        """Give back what was not started, and cancel what runs."""
        if self._whole is not None:
            self.stop()
            self.stop()  # nobody waits for what a test has left behind
            await asyncio.wait([self._whole])
            self._check()

    def _check(self) -> None:
        if self._whole is None or not self._whole.done():
            return
        self._whole.result()

    def go(self) -> None:
        """Start jobs until `pause` was called as often."""
        self._going += 1
        self.resume()

    def pause(self) -> None:
        """Start no more; what runs goes on."""
        self._going -= 1
        if not self._going:
            self.hold()

    async def until_idle(self) -> None:
        """Wait until nothing runs, and nothing waits that could."""
        quiet = looks = 0
        while quiet < TURNS:
            self._check()
            quiet = quiet + 1 if self._idle() else 0
            looks += 1
            await asyncio.sleep(0 if quiet or looks < AT_ONCE else LOOK)

    def _idle(self) -> bool:
        now = self.snapshot()
        if now.running or not now.at_rest:
            return False
        # Of what the broker says is out, all is held here for a gate or until it is due: nothing
        # is on its way, and every ack has arrived.
        queues = self._host.queues
        lanes = [(s, queues[s.queue]) for s in now.queues if s.queue in queues]
        if sum(queue.unacked for _, queue in lanes) != now.waiting + now.held:
            return False
        return all(not queue.ready or s.paused or queue.unacked >= s.prefetch for s, queue in lanes)

    def what_is_left(self) -> str:
        """What keeps it busy, for people."""
        now = self.snapshot()
        said = [f"running: {', '.join(now.jobs)}"] if now.jobs else []
        for held in now.queues:
            queue = self._host.queues.get(held.queue)
            if queue is not None and (queue.ready or queue.unacked):
                said.append(f"{queue.name}: {queue.ready} ready, {queue.unacked} unacked")
        return "; ".join(said) or "nothing is left, and yet something goes on"
