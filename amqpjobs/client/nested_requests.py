"""Requests that jobs send, and the warning when every slot of their worker waits for one.

Changes when a worker knows more about requests that its own jobs send.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Final

from amqpjobs.errors import ReplyTimeout
from amqpjobs.jobs.run_context import RunContext

if TYPE_CHECKING:
    from pydantic import SecretStr

    from amqpjobs.client.question import Question, Reply
    from amqpjobs.client.replies import Replies

log = logging.getLogger("amqpjobs.worker")

FIX: Final = (
    "raise --concurrency, consume the requested queue with another worker, or use `later` "
    "instead of `request`"
)


class NestedRequests:
    """The jobs of one worker that wait for replies from queues which this worker consumes.

    When every slot is taken by such a job, this worker can start none of the requested jobs: they
    wait until a request times out, unless another worker has a free slot. Blocking clients call it
    from threads of their own.

    Args:
        url: of the broker that the worker consumes from.
        queues: names of the AMQP queues that it consumes.
        concurrency: its slots.
        running: the contexts of the jobs that run now, in any thread.
    """

    def __init__(
        self,
        url: "SecretStr",
        queues: Collection[str],
        concurrency: int,
        running: Callable[[], Iterable[RunContext | None]],
    ) -> None:
        self._url = url
        self._queues = frozenset(queues)
        self._concurrency = concurrency
        self._running = running
        self._numbers = count()
        self._waiting: dict[int, RunContext] = {}
        self._blocked: set[int] = set()
        self._warned = False

    def __repr__(self) -> str:
        return f"<NestedRequests: {len(self._waiting)} waiting, {self._concurrency} slots>"

    async def answer(
        self, context: RunContext, url: "SecretStr", replies: "Replies", question: "Question"
    ) -> "Reply":
        """Wait for the reply to a request that a job has sent.

        Raises:
            ReplyTimeout: it says so if every slot waited for a request.
            ReplyLost, PublishError: see `Replies.answer`.
        """
        if question.queue not in self._queues or url != self._url:
            return await replies.answer(question)
        number = next(self._numbers)
        self._waiting[number] = context
        try:
            self._look(question)
            return await replies.answer(question)
        except ReplyTimeout as error:
            if number not in self._blocked:
                raise
            raise ReplyTimeout(
                f"{error}; every slot of this worker (concurrency {self._concurrency}) waited for "
                f"a request to a queue that it consumes itself: {FIX}",
                job=error.job,
                timeout=error.timeout,
                sent=error.sent,
            ) from None
        finally:
            del self._waiting[number]
            self._blocked.discard(number)

    def _look(self, question: "Question") -> None:
        """See whether this request has filled the last slot."""
        waiting = dict(self._waiting)
        if len(waiting) < self._concurrency:
            return
        contexts = set(waiting.values())
        # A task that outlives its job may wait, too: it has no slot.
        if sum(context in contexts for context in self._running()) < self._concurrency:
            return
        self._blocked.update(waiting)
        if not self._warned:
            self._warned = True
            log.warning(
                "every slot waits for a request",
                extra={
                    "requested": question.subject,
                    "request_queue": question.queue,
                    "concurrency": self._concurrency,
                    "fix": FIX,
                },
            )


nested_requests: ContextVar[NestedRequests | None] = ContextVar(
    "amqpjobs_nested_requests", default=None
)
"""Of the worker whose job runs here. It is set once, in the context that every job of that worker
starts with: a job that sends no request pays nothing for it."""


async def answer_in_job(
    context: RunContext, url: "SecretStr", replies: "Replies", question: "Question"
) -> "Reply":
    """Wait for the reply to a request that was sent where a job runs.

    Args:
        context: of the job.
        url: of the broker that the request was sent to.
        replies: where the reply arrives.
        question: the request.
    """
    nested = nested_requests.get()
    if nested is None:  # a plain call, or the process of a `cpu=True` job
        return await replies.answer(question)
    return await nested.answer(context, url, replies, question)
