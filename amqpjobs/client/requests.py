"""A request from its call to its result, or to the error that says why there is none.

Changes when the surface of requests does; `amqpjobs.client.replies` waits for the replies.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.client.job_properties import body_of
from amqpjobs.client.nested_requests import answer_in_job
from amqpjobs.client.publishers import Publishers
from amqpjobs.errors import (
    ConfigurationError,
    DecodeError,
    InvalidResult,
    MessageTooLarge,
    ReplyTimeout,
)
from amqpjobs.jobs.call_options import LONGEST
from amqpjobs.jobs.durations import Seconds, seconds_above_zero
from amqpjobs.jobs.exceptions import by_name
from amqpjobs.jobs.message.bodies import own
from amqpjobs.jobs.message.compression import ENCODINGS, decompressed, readable
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.message.properties import ERROR_REPLY, JSON, TRANSIENT, Properties
from amqpjobs.jobs.middleware import Publishing, onion
from amqpjobs.jobs.run_context import RunContext, current_context
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.telemetry.traces.propagation import Traced

if TYPE_CHECKING:
    from amqpjobs.client.publisher import Publisher
    from amqpjobs.client.question import Question, Reply
    from amqpjobs.client.replies import Replies
    from amqpjobs.jobs.definition import Definition

MakesProperties: TypeAlias = Callable[["Publisher", str, float], Properties]
"""Makes the properties of a request: of the publisher, the name of the reply queue, and the seconds
that are left."""


class Requests:
    """Requests on behalf of one app.

    Args:
        runtime: whose jobs.
        publishers: where the publisher of an event loop is.
        publishing: middleware around every message that is published.
    """

    def __init__(
        self, runtime: Runtime, publishers: Publishers, publishing: Sequence[Publishing]
    ) -> None:
        self._runtime = runtime
        self._publishers = publishers
        self._publishing = tuple(publishing)
        self._known = by_name(runtime.registry.exceptions)

    async def job(self, message: Message[Any], timeout: Seconds | None) -> Any:
        """Ask for a job. See `App.request`."""
        options = message.options
        if options.delay is not None or options.at is not None:
            raise ConfigurationError(
                f"{message.job}: a request waits for its reply, so it cannot have a delay; use "
                "`later` for what is to run at another time"
            )
        definition = self._runtime.registry.resolve(message.job)
        if definition.body is not None and (why := own(definition.body, "no_request")) is not None:
            raise ConfigurationError(f"{message.job}: {why}")
        seconds = self._seconds(options.timeout if timeout is None else timeout)
        tracing = self._traced.now()
        if tracing is None:
            return self._result(definition, message, await self._reply(message, seconds))
        with tracing.asking(message.queue, message.job) as asking:
            reply = await self._reply(message, seconds)
            asking.answered(reply.header)
            return self._result(definition, message, reply)

    @cached_property
    def _traced(self) -> Traced:
        return Traced(lambda: self._runtime.settings)

    def _result(self, definition: "Definition", message: Message[Any], reply: "Reply") -> Any:
        if reply.header.type == ERROR_REPLY:
            raise self._error(reply, message.job, message.id)
        body, encoding = reply.body, reply.header.content_encoding
        if encoding is not None and encoding in ENCODINGS:
            try:
                body = decompressed(body, encoding, self._runtime.settings.max_message_size)
            except DecodeError as error:
                raise InvalidResult(f"the reply of {message.job!r}: {error}") from None
        return self._load(definition, body)

    async def _reply(self, message: Message[Any], timeout: float) -> "Reply":
        context = current_context.get()
        allowed = timeout if context is None else self._left_of(context, timeout, message.job)
        end = time.monotonic() + allowed
        publisher = self._publishers.opened or await self._open(message.job, timeout, end)
        if self._publishing:
            return await self._through_middleware(publisher, message, timeout, end)
        replies = publisher.replies
        if replies.queue is None:
            await replies.ready(message.job, timeout, end - time.monotonic())
        left = end - time.monotonic()
        question = publisher.question(message, timeout, left)
        replies.ask(question, body_of(message, question.properties), left)
        if context is None:
            return await replies.answer(question)
        return await self._answer(context, replies, question)

    def _left_of(self, context: RunContext, timeout: float, subject: str) -> float:
        return _allowed(context, timeout, subject, self._runtime.clock.time())

    async def _answer(
        self, context: RunContext | None, replies: "Replies", question: "Question"
    ) -> "Reply":
        if context is None:
            return await replies.answer(question)
        return await answer_in_job(context, self._runtime.settings.url, replies, question)

    def _seconds(self, timeout: Seconds | None) -> float:
        if timeout is None:
            return self._runtime.settings.request_timeout
        return seconds_above_zero("timeout", timeout, LONGEST)

    @cached_property
    def _load(self) -> "Callable[[Definition, bytes], object]":
        # Imported once and late: pydantic is not needed for declaring jobs.
        from amqpjobs.jobs.results import load_result

        return load_result

    async def _through_middleware(
        self, publisher: "Publisher", message: Message[Any], timeout: float, end: float
    ) -> "Reply":
        """The chain is around the sending: what it returns has been sent, not answered."""
        replies = publisher.replies
        asked: list[Question] = []
        connecting = False

        async def send(message: Message[Any]) -> JobHandle[Any]:
            nonlocal connecting
            connecting = True
            await replies.ready(message.job, timeout, end - time.monotonic())
            connecting = False
            left = end - time.monotonic()
            question = publisher.question(message, timeout, left)
            replies.ask(question, body_of(message, question.properties), left)
            asked.append(question)
            return JobHandle(message.id, message.job, message.queue)

        try:
            try:
                async with asyncio.timeout(max(0.0, end - time.monotonic())) as limit:
                    await onion(self._publishing, send)(message)
            except TimeoutError:
                if not limit.expired():
                    raise
                obstacle = publisher.publication.obstacle
                words = obstacle if connecting else "publishing middleware took too long"
                raise _too_late(message.job, timeout, words) from None
            if not asked:
                raise ConfigurationError(
                    f"{message.job}: a publishing middleware did not send the request, so there "
                    "will be no reply: let it raise an error that says why"
                )
            return await self._answer(current_context.get(), replies, asked[-1])
        finally:
            for question in asked:
                replies.drop(question)

    async def service(
        self, queue: str, body: Any, timeout: Seconds | None, type_: str | None, returns: Any
    ) -> Any:
        """Ask a service that is not ours. See `App.request`."""
        from amqpjobs.jobs.message.reply import read_value

        data, content_type = _encoded(body)

        def properties(publisher: "Publisher", reply_to: str, left: float) -> Properties:
            message_id, correlation_id = new_job_id(), publisher.replies.new_correlation_id()
            return Properties(
                content_type=content_type,
                headers=publisher.trace_of_request(queue, message_id, correlation_id),
                delivery_mode=TRANSIENT,
                correlation_id=correlation_id,
                reply_to=reply_to,
                # It does not know our deadline header; RabbitMQ drops what it did not take in time.
                expiration=str(max(1, round(left * 1000))),
                message_id=message_id,
                timestamp=int(self._runtime.clock.time()),
                type=type_,
                app_id=self._runtime.registry.name,
            )

        reply = await self.foreign(queue, data, properties, timeout)
        if reply.header.type == ERROR_REPLY:
            raise self._error(reply, queue, None)
        return read_value(queue, reply.body, reply.header.content_type, returns)

    async def foreign(
        self,
        queue: str,
        data: bytes,
        properties: "MakesProperties",
        timeout: Seconds | None,
        is_last: Callable[[bytes], bool] | None = None,
    ) -> "Reply":
        """Send a request that is not for our workers, and wait for its reply.

        Args:
            queue: where it goes.
            data: its body.
            properties: makes its properties.
            timeout: seconds or a timedelta; None for the setting.
            is_last: see `Question`.
        """
        seconds = self._seconds(timeout)
        context = current_context.get()
        allowed = seconds if context is None else self._left_of(context, seconds, queue)
        end = time.monotonic() + allowed
        self._check_size(queue, data)
        tracing = self._traced.now()
        if tracing is None:
            return await self._ask_foreign(queue, data, properties, seconds, end, is_last)
        with tracing.asking(queue) as asking:
            reply = await self._ask_foreign(queue, data, properties, seconds, end, is_last)
            asking.answered(reply.header)
            return reply

    async def _ask_foreign(
        self,
        queue: str,
        data: bytes,
        properties: "MakesProperties",
        timeout: float,
        end: float,
        is_last: Callable[[bytes], bool] | None,
    ) -> "Reply":
        from amqpjobs.client.question import Question

        publisher = self._publishers.opened or await self._open(queue, timeout, end)
        replies = publisher.replies
        reply_to = await replies.ready(queue, timeout, end - time.monotonic())
        left = end - time.monotonic()
        made = properties(publisher, reply_to, left)
        question = Question(queue, timeout, queue, made, of_job=False, is_last=is_last)
        if publisher.meter is not None:
            publisher.meter.sent(queue, None)
        replies.ask(question, data, left)
        return await self._answer(current_context.get(), replies, question)

    async def _open(self, subject: str, timeout: float, end: float) -> "Publisher":
        """The publisher; the broker may be away, and a request has an end all the same."""
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                return await self._publishers.open()
        except TimeoutError:
            words = "there is no connection to RabbitMQ yet"
            raise _too_late(subject, timeout, words) from None

    def _error(self, reply: "Reply", job: str, job_id: str | None) -> Exception:
        from amqpjobs.jobs.message.reply import read_error

        body = readable(reply.body, reply.header.content_encoding)
        return read_error(body, job, job_id, self._known)

    def _check_size(self, queue: str, body: bytes) -> None:
        limit = self._runtime.settings.max_message_size
        if len(body) > limit:
            raise MessageTooLarge(
                f"the request to {queue!r} has {len(body)} bytes, the limit is {limit}: raise "
                "AMQPJOBS_MAX_MESSAGE_SIZE"
            )


def _too_late(subject: str, timeout: float, words: str) -> ReplyTimeout:
    return ReplyTimeout(
        f"{subject!r} was not asked within {timeout:g} s: {words}",
        job=subject,
        timeout=timeout,
        sent=False,
    )


def _encoded(body: Any) -> tuple[bytes, str]:
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(body), JSON
    except PydanticSerializationError as error:
        raise ConfigurationError(f"the body cannot become JSON: {error}; give bytes") from None


def _allowed(context: RunContext, timeout: float, subject: str, now: float) -> float:
    """Seconds for a request of a job: if that was requested itself, no more than its caller waits.

    Raises:
        ReplyTimeout: its caller has given up.
    """
    if context.deadline is None:
        return timeout
    try:
        # The deadline of a job that nobody asked is for its start, and that has been. So is one
        # that another job system has set, which was translated: the message itself has none.
        message = context.message
        if message.reply_to is None or read_leniently(message.headers).deadline is None:
            return timeout
    except DecodeError:
        return timeout
    left = context.deadline - now
    if left <= 0:
        raise ReplyTimeout(
            f"{subject!r} was not asked: the deadline of {context.job!r}, which wanted to, is over",
            job=subject,
            timeout=timeout,
            sent=False,
        )
    return min(timeout, left)
