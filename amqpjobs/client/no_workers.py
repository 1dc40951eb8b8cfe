"""Notices that nobody consumes the queue of a request, so that it need not wait out its time.

Changes when it is found out differently.
"""

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.errors import AmqpJobsError, NoWorker
from amqpjobs.jobs.run_context import context_of_nobody

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.connection import Link
    from amqpjobs.client.question import Question

log = logging.getLogger("amqpjobs.replies")

LOOK: Final = 1.0
"""Seconds between two looks; a request that is answered sooner costs none."""


class NoWorkers:
    """Fails the requests whose queue had no consumer in several looks, a second apart.

    Several, since a worker that is restarted is away for a moment as well.

    Args:
        link: to look on.
        pending: the requests that wait; looked at, not changed.
        patience: seconds without a consumer until they fail; 0 to let them wait out their time.
    """

    def __init__(self, link: "Link", pending: "Collection[Question]", patience: float) -> None:
        self.active = not patience
        self._link = link
        self._pending = pending
        self._patience = patience
        self._absent: dict[str, float] = {}
        self._task: BackgroundTask | None = None

    def begin(self) -> None:
        """Look from now on, until nothing is pending. Not to be called while `active`."""
        self.active = True
        self._task = context_of_nobody().run(BackgroundTask, self._look, "amqpjobs no workers")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            await self._task.stop()

    async def _look(self) -> None:
        waited: set[Question] = set()
        try:
            while self._pending:
                before = waited
                waited = {question for question in self._pending if question.of_job}
                await self._judge(waited & before)
                await asyncio.sleep(LOOK)
        finally:
            self._absent.clear()
            self.active = False

    async def _judge(self, questions: "set[Question]") -> None:
        """Look at the queues of requests that have waited for a second."""
        queues = {question.queue for question in questions}
        wire = self._link.wire
        if not queues or wire is None or wire.lost.is_set():
            return
        try:
            async with asyncio.timeout(LOOK), Declarer(wire) as declarer:
                found = await declarer.look_at_all(queues)
        except (AmqpJobsError, TimeoutError, *FAILURES) as error:
            log.debug("consumers not counted", extra={"error": repr(error)})
            return
        now = asyncio.get_running_loop().time()
        for queue, answer in found.items():
            if answer is None or answer.consumer_count:
                self._absent.pop(queue, None)
            elif now - self._absent.setdefault(queue, now) >= self._patience - LOOK:
                self._fail(queue, questions)

    def _fail(self, queue: str, questions: "set[Question]") -> None:
        for question in questions:
            if question.queue == queue:
                question.fail(
                    NoWorker(
                        f"no worker consumes the queue {queue!r} of {question.subject!r}: start "
                        f"one (`amqpjobs consume {queue}`)",
                        job=question.subject,
                        timeout=question.timeout,
                        sent=True,
                    )
                )
