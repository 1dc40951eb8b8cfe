"""Requests that wait for their replies, over one exclusive queue for the whole process.

A reply finds its request by the correlation id alone: 128 random bits, new for each request. A
service that has seen one cannot guess another, and none is ever used again. So a late reply, or
somebody else's, is nobody's. Every request ends, and leaves nothing behind: by its reply, by its
time, by what became of its message, or with the connection. Changes when waiting for a reply does.
"""

import asyncio
import logging
import os
from typing import NamedTuple

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.unconfirmed_publication import Notice, Notices
from amqpjobs.errors import ReplyLost, ReplyTimeout
from amqpjobs.jobs.context import context_of_nobody
from amqpjobs.jobs.message.headers import JobHeaders, read_leniently, write
from amqpjobs.jobs.message.properties import CANCEL, TRANSIENT, Properties
from amqpjobs.jobs.queue.topology import CONTROL_EXCHANGE

log = logging.getLogger("amqpjobs.replies")


class Reply(NamedTuple):
    """A reply as it came; anybody may have written it."""

    header: HeaderView
    body: bytes


class Question:
    """One request that waits. It is told itself what became of its message (see `Fate`): that
    spares each request a future and a turn of the event loop.

    Attributes:
        subject: the job's name, or the queue's of a service that is not ours.
        timeout: seconds, as the caller gave them.
        queue: where the request went.
        properties: of its message.
        of_job: whether our workers run it, and can be told to cancel it.
    """

    __slots__ = (
        "_sent", "future", "of_job", "properties", "queue", "subject", "timeout", "timer",
    )  # fmt: skip

    def __init__(
        self, subject: str, timeout: float, queue: str, properties: Properties, *, of_job: bool
    ) -> None:
        self.subject = subject
        self.timeout = timeout
        self.queue = queue
        self.properties = properties
        self.of_job = of_job
        self._sent = False
        self.future: asyncio.Future[Reply]
        self.timer: asyncio.TimerHandle

    def done(self) -> bool:
        """Whether the fate of its message is known, or does not matter any more."""
        return self._sent

    def cancel(self) -> bool:
        """It does not matter any more."""
        self._sent = True
        return True

    def set_result(self, result: None) -> None:
        """RabbitMQ has the message, which says nothing about the reply."""
        self._sent = True

    def set_exception(self, exception: BaseException) -> None:
        """It has not, and there will be no reply."""
        self._sent = True
        self.fail(exception)

    def fail(self, error: BaseException) -> None:
        """End it, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)


class Replies:
    """The reply queue of one publishing connection, and the requests that wait for it.

    Args:
        link: the publishing connection. Replies need no ack, so nothing is written on it while
            RabbitMQ blocks publishers.
        publication: to send requests on.

    Attributes:
        unknown: how many replies came that no request waited for, such as late ones.
    """

    def __init__(self, link: Link, publication: Publication) -> None:
        self.unknown = 0
        self._publication = publication
        self._listener = Listener(link, self._arrived, on_lost=self._lost)
        self._notices = Notices(link)
        self._pending: dict[str, Question] = {}
        self._variables = context_of_nobody()
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        return f"<Replies: {self.pending} pending, {self.unknown} unknown>"

    @property
    def pending(self) -> int:
        """How many requests wait."""
        return len(self._pending)

    @property
    def queue(self) -> str | None:
        """The reply queue's name; None while there is none, see `ready`."""
        return self._listener.queue

    async def ready(self, subject: str, timeout: float, left: float) -> str:
        """Wait until there is a reply queue.

        Args:
            subject: who is to be asked, for the error.
            timeout: seconds, as the caller gave them, for the error.
            left: seconds to wait.

        Raises:
            ReplyTimeout: there is none in time.
            ConfigurationError: RabbitMQ does not let this user have one.
        """
        end = self._loop.time() + left
        while (queue := self._listener.queue) is None:
            if self._closed:
                raise ReplyLost("the connection was closed here", job=subject, sent=False)
            if self._listening is None:
                self._listening = self._loop.create_task(
                    self._listener.run(), context=self._variables
                )
            listening, ready = self._listening, asyncio.ensure_future(self._listener.ready())
            try:
                await asyncio.wait(
                    (listening, ready),
                    timeout=max(0.0, end - self._loop.time()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                ready.cancel()
            if listening.done() and not self._closed:
                if self._listening is listening:
                    self._listening = None  # the next request tries again
                if not listening.cancelled():
                    listening.result()
            elif not ready.done():
                raise ReplyTimeout(
                    f"{subject!r} was not asked within {timeout:g} s: {self._publication.obstacle}",
                    job=subject,
                    timeout=timeout,
                    sent=False,
                )
        return queue

    def new_correlation_id(self) -> str:
        """One that was never used, and that nobody can guess."""
        return os.urandom(16).hex()

    def ask(self, question: Question, body: bytes, left: float) -> None:
        """Send a request. `answer` must follow, or `drop`.

        Args:
            question: its properties have the name of the reply queue, taken without an await since,
                and a new correlation id.
            body: bytes.
            left: seconds that it may take.
        """
        question.future = self._loop.create_future()
        question.timer = self._loop.call_later(
            left, self._expired, question, context=self._variables
        )
        self._pending[question.properties.correlation_id or ""] = question
        self._publication.send_for(question, "", question.queue, question.properties, body)

    async def answer(self, question: Question) -> Reply:
        """Wait for the reply.

        Raises:
            ReplyTimeout, ReplyLost: there is none.
            PublishError: RabbitMQ does not have the request.
        """
        try:
            return await question.future
        except asyncio.CancelledError:
            self._give_up(question)
            raise
        finally:
            self.drop(question)

    def drop(self, question: Question) -> None:
        """Forget a request, whatever became of it. One that waits is not sent any more, and one
        whose confirm got lost is not sent again."""
        self._pending.pop(question.properties.correlation_id or "", None)
        self._publication.take_back(question)
        question.timer.cancel()
        future = question.future
        if not future.cancel() and not future.cancelled():
            future.exception()  # it was looked at, or nobody wants to

    def _give_up(self, question: Question) -> None:
        """The caller does not wait any more: neither should a worker work for them."""
        sent = self._publication.take_back(question)
        properties = question.properties
        if not sent or not question.of_job or self._publication.blocked is not None:
            return
        deadline = read_leniently(properties.headers).deadline
        word = Properties(
            headers=write(JobHeaders(deadline=deadline)),
            delivery_mode=TRANSIENT,
            correlation_id=properties.correlation_id,
            reply_to=properties.reply_to,
            message_id=properties.message_id,
            type=CANCEL,
            app_id=properties.app_id,
        )
        self._notices.send(Notice(CONTROL_EXCHANGE, question.queue, word, b""))

    def _arrived(self, header: HeaderView, body: bytes) -> None:
        question = self._pending.get(header.correlation_id or "")
        if question is None or question.future.done():
            self.unknown += 1
            log.debug("a reply that nobody waits for, dropped")
            return
        question.future.set_result(Reply(header, body))

    def _expired(self, question: Question) -> None:
        if question.future.done():
            return
        timeout, sent, words = question.timeout, True, "it was sent"
        if not question.done():
            unsure = self._publication.not_confirmed(question, None, timeout)
            question.cancel()
            sent = unsure.sent
            words = "it may have arrived" if sent else "it was not sent"
            words += f": {self._publication.obstacle}"
        question.fail(
            ReplyTimeout(
                f"no answer from {question.subject!r} within {timeout:g} s; {words}",
                job=question.subject,
                timeout=timeout,
                sent=sent,
            )
        )

    def _lost(self, reason: str) -> None:
        """The reply queue is gone. Whatever still waits to be sent names it, and must not leave."""
        self._fail_all(f"the connection for the answer was lost: {reason}")

    def _fail_all(self, words: str) -> None:
        for question in list(self._pending.values()):
            sent = self._publication.take_back(question)
            question.fail(ReplyLost(words, job=question.subject, sent=sent))

    async def close(self) -> None:
        """Fail what still waits, and listen no more."""
        self._closed = True
        self._fail_all("the connection was closed here")
        await self._notices.close()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait((self._listening,))
