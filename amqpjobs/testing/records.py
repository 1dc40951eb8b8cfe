"""What a test can look at: enqueued jobs, runs, and dead letters.

Changes when a test may ask for something else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import from_json

from amqpjobs.broker.amqp.frames import readable_properties
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.client.deadletters.letter import Letter, Place, letter_of
from amqpjobs.client.prepared import Prepared
from amqpjobs.client.publisher import Publisher
from amqpjobs.client.question import Question
from amqpjobs.client.replies import Replies
from amqpjobs.errors import DecodeError, JobFailed
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.compression import SHOWN
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.events import Announcement
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message, Options
from amqpjobs.jobs.message.own_headers import own_headers
from amqpjobs.jobs.message.properties import JSON, Properties
from amqpjobs.jobs.outcome import Done, Outcome, Parked, Rejected
from amqpjobs.jobs.queue.queue import lanes_of
from amqpjobs.testing.statuses import HeardAnnouncements
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.vhost import VirtualHost
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.jobs.runtime import Runtime

R = TypeVar("R")

_FRONT = bytes((0, 60, 0, 0)) + bytes(8)
"""Class, weight and body size: what a content header begins with."""


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A call that RabbitMQ would have by now, run or not.

    Attributes:
        id: of the job.
        job: its name.
        queue: where it went.
        arguments: by the name of the parameter, as the handler gets them. Those that were left out
            are not among them.
        options: what the call said about itself: priority, delay and so on.
    """

    id: str
    job: str
    queue: str
    arguments: Mapping[str, Any]
    options: Options


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a job, as it ended.

    Attributes:
        id: of the job; empty for a message that had none.
        job: its name; empty for a message that fits no job.
        attempt: which run it was, from 1.
        outcome: how it ended, by the name that log and metrics use: ``done``, ``retried``, or the
            reason of a failure: ``failed``, ``rejected``, ``invalid``.
        result: what the handler returned.
        error: what it raised.
    """

    id: str
    job: str
    attempt: int
    outcome: str
    result: Any = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """An event that was published, whether a queue is bound for it or not.

    Attributes:
        id: of the event.
        exchange: where it was published.
        routing_key: with which key.
        payload: what JSON makes of it, and bytes for another format.
        headers: of the message, without those of tracing.
    """

    id: str
    exchange: str
    routing_key: str
    payload: Any
    headers: Mapping[str, Any]


def published_of(event: "Prepared") -> Published:
    """An event as a test sees it."""
    properties, payload = event.properties, event.body
    if properties.content_type == JSON:
        payload = from_json(event.body)
    headers = dict(own_headers(properties.headers))
    return Published(event.job_id, event.exchange, event.routing_key, payload, headers)


@dataclass(frozen=True, slots=True)
class Dead:
    """A dead letter.

    Attributes:
        id: of the job, if it has one.
        job: its name, if the message says it.
        queue: the app's queue that it failed in.
        reason: one word: ``failed``, ``rejected``, ``invalid``.
        error: the name of the exception's class; None where nothing was raised.
        message: what a person would read.
        attempt: which run was the last, if it got so far.
        arguments: by the name of the parameter; None where they do not fit the job.
    """

    id: str | None
    job: str | None
    queue: str
    reason: str
    error: str | None
    message: str
    attempt: int | None
    arguments: Mapping[str, Any] | None


def arguments_of(definition: Definition, properties: Properties, body: bytes) -> Mapping[str, Any]:
    """The arguments in a message, by name.

    Raises:
        DecodeError: they do not fit.
    """
    data = received(definition.body, properties, body, SHOWN)
    return definition.payload.by_name(definition.payload.load(data))


class RecordingPublisher(Publisher):
    """Notes what is confirmed.

    Attributes:
        enqueued: is called with each call that was.
        known: tells whether a job of this id was enqueued before.
        asked: is called with each request for a job, on the event loop of its caller, before
            anything can be waiting for its future.
        heard: is called with each event of a job.
        told: is called with each event that was published.
    """

    enqueued: Callable[[Message[Any]], object]
    known: Callable[[str], bool]
    asked: Callable[[Question], object]
    heard: Callable[[Announcement], object]
    told: "Callable[[Prepared], object]"

    def __init__(self, runtime: "Runtime") -> None:
        super().__init__(runtime)
        self.replies = _RecordingReplies(self.link, self.publication, lambda q: self.asked(q))
        self.announcements = HeardAnnouncements(runtime, self.link, lambda a: self.heard(a))

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """See `Publisher.enqueue`."""
        handle = await super().enqueue(message)
        self.enqueued(message)
        return handle

    def sent(self, message: Message[Any], due: float | None) -> None:
        """See `Publisher.sent`. A job that has waited for a slot is sent once more by that."""
        super().sent(message, due)
        if not self.known(message.id):
            self.enqueued(message)

    def published(self, event: object) -> None:
        """See `Publisher.published`."""
        if isinstance(event, Prepared):
            self.told(event)

    async def enqueue_many(
        self, messages: Iterable[Message[Any]]
    ) -> list[JobHandle[Any] | Exception]:
        """See `Publisher.enqueue_many`."""
        sent: list[Message[Any]] = []

        def passing() -> Iterable[Message[Any]]:
            for message in messages:
                sent.append(message)
                yield message

        results = await super().enqueue_many(passing())
        for message, result in zip(sent, results, strict=True):
            if isinstance(result, JobHandle):
                self.enqueued(message)
        return results

    def question(self, message: Message[Any], timeout: float, left: float) -> Question:
        """See `Publisher.question`."""
        question = super().question(message, timeout, left)
        self.enqueued(message)
        return question


class _RecordingReplies(Replies):
    """Tells of each request for a job when its future is there."""

    def __init__(
        self, link: Link, publication: Publication, asked: Callable[[Question], object]
    ) -> None:
        super().__init__(link, publication)
        self._asked = asked

    def ask(self, question: Question, body: bytes, left: float) -> None:
        """See `Replies.ask`."""
        super().ask(question, body, left)
        if question.of_job or question.is_last is not None:  # of another job system, but run here
            self._asked(question)


class Record:
    """Everything that has happened."""

    def __init__(self) -> None:
        self.enqueued: list[Message[Any]] = []
        self.published: list[Prepared] = []
        self.runs: list[Ran] = []
        self._errors: list[tuple[str, Exception]] = []

    def __repr__(self) -> str:
        return f"<Record: {len(self.enqueued)} enqueued, {len(self.runs)} runs>"

    def known(self, job_id: str) -> bool:
        """Whether a job of this id was enqueued."""
        return any(message.id == job_id for message in self.enqueued)

    def ran(self, run: Run, outcome: Outcome) -> None:
        """A run has ended: an observer of the worker."""
        result = outcome.result if isinstance(outcome, Done) else None
        error = outcome.error
        job = run.definition.name if run.definition else ""
        context = run.context
        job_id, attempt = (context.job_id, context.attempt) if context else ("", 1)
        self.runs.append(Ran(job_id, job, attempt, outcome.word, result, error))
        if isinstance(outcome, Rejected | Parked):
            self._errors.append((job_id, _error_of(outcome.failure, error, job_id)))

    def take_errors(self) -> list[Exception]:
        """The errors of jobs that have failed for good since this was asked last."""
        errors, self._errors = self._errors, []
        return [error for _, error in errors]

    def told(self, job_id: str) -> None:
        """The error of this job was raised in the test already."""
        self._errors = [each for each in self._errors if each[0] != job_id]


def _error_of(failure: Failure, error: BaseException | None, job_id: str) -> Exception:
    """What to raise in the test: the handler's own exception, where there is one."""
    job = failure.job or ""
    if isinstance(error, Exception):
        error.add_note(f"In job {job!r} from queue {failure.queue!r}, id {job_id}.")
        return error
    raised = JobFailed(
        failure.message,
        error=failure.exception or failure.reason,
        job=job,
        attempt=failure.attempt,
        job_id=job_id,
    )
    # Raised as it is, `sys.exit` of a handler would end the test run.
    raised.__cause__ = error
    return raised


def raise_all(errors: Sequence[Exception]) -> None:
    """Raise the only one, or all of them as a group.

    Raises:
        ExceptionGroup: of several.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExceptionGroup(f"{len(errors)} jobs failed", errors)


def enqueued_of(definition: Definition, message: Message[Any]) -> Enqueued:
    """A message as a test sees it."""
    properties = Properties(message.content_type, headers=message.options.headers)
    arguments = arguments_of(definition, properties, message.body)
    return Enqueued(message.id, message.job, message.queue, arguments, message.options)


def dead_letters(registry: "Registry", host: "VirtualHost") -> list[Dead]:
    """The dead letters of an app's queues, as they are on the broker."""
    lanes = frozenset(lane.queue for queue in registry.queues.values() for lane in lanes_of(queue))
    found: list[Dead] = []
    for queue in registry.queues.values():
        if queue.dead not in host.queues:
            continue
        place = Place("dead", queue.dead, queue.name)
        for message in host.queues[queue.dead].messages():
            properties = readable_properties(_FRONT + message.header)
            letter = letter_of(place, lanes, properties, message.body, message.routing_key)
            found.append(_dead_of(letter, registry.known(letter.job or "")))
    return found


def _dead_of(letter: Letter, definition: Definition | None) -> Dead:
    failure = letter.failure or Failure("unknown", "")
    return Dead(
        letter.id,
        letter.job,
        letter.queue,
        failure.reason,
        failure.exception,
        failure.message,
        failure.attempt,
        _readable_arguments(definition, letter),
    )


def _readable_arguments(definition: Definition | None, letter: Letter) -> Mapping[str, Any] | None:
    if definition is None:
        return None
    try:
        return arguments_of(definition, letter.properties, letter.body)
    except DecodeError:
        return None  # that may be why it is dead
