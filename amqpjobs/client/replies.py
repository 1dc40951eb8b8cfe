"""Requests that wait for their replies, over one exclusive queue for the whole process.

A reply finds its request by the correlation id alone: 128 random bits, new for each request. A
service that has seen one cannot guess another, and none is ever used again. So a late reply, or
somebody else's, is nobody's. Every request ends, and leaves nothing behind: by its reply, by its
time, by what became of its message, or with the connection. Changes when waiting for a reply does.
"""

import asyncio
import logging

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.unconfirmed_publication import Notice, Notices
from amqpjobs.client.no_workers import NoWorkers
from amqpjobs.client.question import Question, Reply
from amqpjobs.errors import ReplyLost, ReplyTimeout
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import read_leniently, write
from amqpjobs.jobs.message.ids import random_digits
from amqpjobs.jobs.message.properties import CANCEL, TRANSIENT, Properties
from amqpjobs.jobs.queue.topology import CONTROL_EXCHANGE
from amqpjobs.jobs.run_context import context_of_nobody

log = logging.getLogger("amqpjobs.replies")


class Replies:
    """The reply queue of one publishing connection, and the requests that wait for it.

    Args:
        link: the publishing connection. Replies need no ack, so nothing is written on it while
            RabbitMQ blocks publishers.
        publication: to send requests on.
        patience: seconds that the queue of a request may have no consumer; 0 for any time.

    Attributes:
        unknown: how many replies came that no request waited for, such as late ones.
    """

    def __init__(self, link: Link, publication: Publication, patience: float = 0.0) -> None:
        self.unknown = 0
        self._publication = publication
        self._listener = Listener(link, self._arrived, on_lost=self._lost)
        self._notices = Notices(link)
        self._pending: dict[str, Question] = {}
        self._no_workers = NoWorkers(link, self._pending.values(), patience)
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
            subject: what is requested, for the error.
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
        """A new, unguessable correlation id."""
        return random_digits()

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
        if not self._no_workers.active:
            self._no_workers.begin()

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
        """Forget a request, whatever became of it. One that waits is no longer sent, and one
        whose confirm got lost is not sent again."""
        self._pending.pop(question.properties.correlation_id or "", None)
        self._publication.take_back(question)
        question.timer.cancel()
        future = question.future
        if not future.cancel() and not future.cancelled():
            future.exception()  # it was looked at, or nobody wants to

    def _give_up(self, question: Question) -> None:
        """The caller no longer waits: neither should a worker work for them."""
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
            log.debug("reply without a caller dropped")
            return
        if question.is_last is None or question.is_last(body):
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
                f"no reply from {question.subject!r} within {timeout:g} s; {words}",
                job=question.subject,
                timeout=timeout,
                sent=sent,
            )
        )

    def _lost(self, reason: str) -> None:
        """The reply queue is gone. Whatever still waits to be sent names it, and must not leave."""
        self._fail_all(f"the reply connection was lost: {reason}")

    def _fail_all(self, words: str) -> None:
        for question in list(self._pending.values()):
            sent = self._publication.take_back(question)
            question.fail(ReplyLost(words, job=question.subject, sent=sent))

    async def close(self) -> None:
        """Fail what still waits, and listen no more."""
        self._closed = True
        self._fail_all("the connection was closed here")
        await self._notices.close()
        await self._no_workers.stop()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait((self._listening,))
