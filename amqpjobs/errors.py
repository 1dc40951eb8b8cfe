"""Every error that amqpjobs raises. One root, so that one `except` clause can catch them all."""

from collections.abc import Iterable, Mapping
from typing import Any


class AmqpJobsError(Exception):
    """The root: catch this to catch whatever amqpjobs raises by itself."""

    def __reduce__(self) -> "tuple[Any, ...]":
        # Python's own way calls the class with `args` alone, which keyword arguments do not
        # survive: an error out of the process of a job could not be read back.
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(
    kind: type[AmqpJobsError], args: tuple[object, ...], attributes: dict[str, object]
) -> AmqpJobsError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(AmqpJobsError):
    """An impossible declaration, setting or command line. The message says how to fix it."""


class NotPermitted(ConfigurationError):
    """RabbitMQ does not let this user do that. The message says which permission is missing.

    Attributes:
        permission: ``configure``, ``write`` or ``read``; several where it cannot be told which.
        resource: what it is for, such as ``queue 'thumbnails'``; empty if RabbitMQ did not say.
    """

    def __init__(self, message: str, *, permission: str, resource: str) -> None:
        super().__init__(message)
        self.permission = permission
        self.resource = resource


class BrokerUnavailable(AmqpJobsError):
    """No connection to RabbitMQ: away, unreachable, or it refused the login or the virtual host.

    Attributes:
        temporary: whether trying again may help. A refused login, a missing virtual host or a
            certificate that does not verify will not fix itself.
        unconfigured: whether no URL is set, and nothing listens at the default one: then a program
            does not wait for its broker.
    """

    def __init__(self, message: str, *, temporary: bool = True, unconfigured: bool = False) -> None:
        super().__init__(message)
        self.temporary = temporary
        self.unconfigured = unconfigured


class ProtocolError(AmqpJobsError):
    """The peer sent bytes that are not AMQP 0-9-1. The connection is closed: nothing behind them
    can be trusted."""


class CallbackError(AmqpJobsError):
    """A callback of ours raised while the connection called it: a bug, so the connection is closed.

    Going on would leave a message or a confirm unaccounted for.
    """


class TopologyMismatch(AmqpJobsError):
    """A queue or an exchange is missing, or is there with other arguments than the app declares.

    Nothing is deleted or changed.

    Attributes:
        entity: what it is, such as ``queue 'thumbnails'``.
        difference: the broker's own words on what differs.
    """

    def __init__(self, message: str, *, entity: str, difference: str) -> None:
        super().__init__(message)
        self.entity = entity
        self.difference = difference


class InvalidArguments(AmqpJobsError):
    """Arguments that do not fit the job's parameters. Raised before anything is sent.

    Attributes:
        job: the job's name.
    """

    def __init__(self, message: str, *, job: str) -> None:
        super().__init__(message)
        self.job = job


class DecodeError(AmqpJobsError):
    """A received message that is no call of a job: wrong content type, not JSON, wrong schema.

    Attributes:
        findings: where in the arguments, and what is wrong there, without the values and without
            the keys of dicts; none where the message is not looked at so closely.
    """

    def __init__(self, message: str, findings: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class UnknownJob(AmqpJobsError):
    """No job of that name is registered here.

    Attributes:
        job: the name asked for.
    """

    def __init__(self, message: str, *, job: str) -> None:
        super().__init__(message)
        self.job = job


class JobTimeout(AmqpJobsError):
    """A job ran longer than its ``timeout`` (seconds) and was cancelled, or its process killed."""


class JobProcessDied(AmqpJobsError):
    """The process of a ``cpu=True`` job ended before the job did: a crash, or out of memory."""


class NoRoom(AmqpJobsError):
    """A worker has used up what jobs need (threads, processes, file descriptors), and has ended so
    that another takes its place. The jobs that found no room were given back."""


class InvalidResult(AmqpJobsError):
    """A handler returned what cannot be passed on: not what its return annotation allows, nothing
    that JSON can hold, or too large."""


class BatchFailed(AmqpJobsError):
    """For the handler of a batch to raise: some of its jobs have failed, all others are done.

    Args:
        errors: why, by the place of each job in the list. Each counts as raised by that job: it is
            retried or dead-lettered alone; `Snooze` and `Reject` do what they do elsewhere.
        results: of all jobs, in their order, where somebody wants them; whatever there is in the
            place of one that has failed is dropped. None for no results.

    Example:
        >>> failed = BatchFailed({2: ValueError("no such account")})  # to be raised
    """

    def __init__(
        self, errors: "Mapping[int, BaseException]", results: "list[Any] | None" = None
    ) -> None:
        super().__init__(errors, results)
        self.errors = errors
        self.results = results

    def __str__(self) -> str:
        first = next(iter(self.errors.items()), None)
        words = "" if first is None else f"; the first, at {first[0]}: {first[1]!r}"
        return f"{len(self.errors)} jobs of the batch have failed{words}"


class RemoteError(AmqpJobsError):
    """What the handler of a ``cpu=True`` job raised in its process; ``str()`` is its message.

    Attributes:
        exception: the name of the exception's class, ``module.Class``.
        kinds: that name and those of the classes it is derived from.
        frames: its innermost stack frames, innermost first.
        traceback: the whole of it as Python prints it; also a note of this error.
    """

    def __init__(
        self,
        message: str,
        *,
        exception: str,
        kinds: tuple[str, ...],
        frames: tuple[str, ...],
        traceback: str,
    ) -> None:
        super().__init__(message)
        self.exception = exception
        self.kinds = kinds
        self.frames = frames
        self.traceback = traceback
        self.add_note(f"In the process of the job:\n{traceback}")


class StoreUnavailable(AmqpJobsError):
    """The database that keeps the status of jobs is away, or refused us. Jobs go on without it."""


class PublishError(AmqpJobsError):
    """A message was not handed over to RabbitMQ.

    Attributes:
        message_id: the job's id, so that a caller can tell which of many failed.
    """

    def __init__(self, message: str, *, message_id: str | None = None) -> None:
        super().__init__(message)
        self.message_id = message_id


class Unroutable(PublishError):
    """RabbitMQ took the message and returned it: there is no such queue. It is stored nowhere."""


class PublishRejected(PublishError):
    """RabbitMQ refused the message: with `basic.nack`, since the queue is full (`reject-publish`)
    or it could not be written; or by closing the channel over it. It is stored nowhere.

    Attributes:
        for_good: whether RabbitMQ refused what the message is (too large, a property that it does
            not allow), so that it would refuse it again.
    """

    def __init__(
        self, message: str, *, message_id: str | None = None, for_good: bool = False
    ) -> None:
        super().__init__(message, message_id=message_id)
        self.for_good = for_good


class NotConfirmed(PublishError):
    """RabbitMQ did not confirm the message in time.

    Attributes:
        sent: false when the message never left this process (no connection, or the broker had
            blocked publishing): then it is not stored. True when it was sent and its fate is
            unknown: sending it again with the same id is safe for a job that can run twice.
    """

    def __init__(self, message: str, *, message_id: str | None = None, sent: bool) -> None:
        super().__init__(message, message_id=message_id)
        self.sent = sent


class RequestError(AmqpJobsError):
    """A request was not answered with a result."""


class JobFailed(RequestError):
    """The job that was asked has failed for good; ``str()`` is the message of its error.

    Attributes:
        error: the name of the exception's class, ``module.Class``, without the module for Python's
            own; or one word such as ``rejected`` where there was no exception.
        job: the job's name.
        attempt: which run it was, from 1; None if the answer did not say.
        job_id: the job's id, which is in every log line about it.
    """

    def __init__(
        self, message: str, *, error: str, job: str, attempt: int | None, job_id: str | None
    ) -> None:
        super().__init__(message)
        self.error = error
        self.job = job
        self.attempt = attempt
        self.job_id = job_id
        run = f", attempt {attempt}" if attempt is not None else ""
        self.add_note(f"{error} in job {job!r}{run}, id {job_id}")


class ReplyTimeout(RequestError):
    """No reply in time. A job that has not started by now is no longer run; one that runs
    goes on, and its answer is dropped.

    Attributes:
        job: the job's name; the queue's for a service that is not ours.
        timeout: seconds that were waited.
        sent: false when the request never left this process.
    """

    def __init__(self, message: str, *, job: str, timeout: float, sent: bool) -> None:
        super().__init__(message)
        self.job = job
        self.timeout = timeout
        self.sent = sent


class NoWorker(ReplyTimeout):
    """No worker consumed the queue of the job for ``AMQPJOBS_NO_WORKER_TIMEOUT`` (seconds), so the
    request did not wait out its time. A worker that starts before that is over may still run the
    job; its reply is dropped."""


class ReplyLost(RequestError):
    """The connection that the answer would have come over is gone, and the answer with it. The job
    may have run, may run, or may not: asking again is safe for a job that can run twice.

    Attributes:
        job: the job's name; the queue's for a service that is not ours.
        sent: false when the request never left this process.
    """

    def __init__(self, message: str, *, job: str, sent: bool) -> None:
        super().__init__(message)
        self.job = job
        self.sent = sent


class ResultTimeout(AmqpJobsError):
    """A job had not ended when the time to wait for its result was over. Nothing has changed for
    the job: it goes on, and its result can be asked for again.

    Attributes:
        job_id: the job's id.
        timeout: seconds that were waited.
        state: the last that is known of the job, such as ``started``; None if nothing is.
    """

    def __init__(self, message: str, *, job_id: str, timeout: float, state: str | None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.timeout = timeout
        self.state = state


class LockTimeout(AmqpJobsError):
    """A lock was not free in time. Nothing is held.

    Attributes:
        name: of the lock.
    """

    def __init__(self, message: str, *, name: str) -> None:
        super().__init__(message)
        self.name = name


class StepChanged(AmqpJobsError):
    """A durable job ran again, and the arguments of a step with ``strict=True`` have changed.

    Attributes:
        step: its name.
    """

    def __init__(self, message: str, *, step: str) -> None:
        super().__init__(message)
        self.step = step


class SignalTimeout(AmqpJobsError):
    """A durable job waited for a signal that did not arrive in time."""


class NoResult(AmqpJobsError):
    """The result of a job is not stored, or no longer. The message says how to fix it.

    Attributes:
        job_id: the job's id.
        state: the last that is known of the job, such as ``done``; None if nothing is.
    """

    def __init__(self, message: str, *, job_id: str, state: str | None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.state = state


class MessageTooLarge(PublishError):
    """The body is larger than ``AMQPJOBS_MAX_MESSAGE_SIZE`` (bytes). It was not sent."""


class PublishManyFailed(PublishError):
    """Some messages of a ``later_many`` were not handed over; all the others were.

    Attributes:
        results: one entry for each message, in order: its handle, or the error it met. That is a
            `PublishError`, or whatever a publishing middleware raised. If the messages came from an
            iterator that raised, its error is the last entry: what it would have given after that
            was never sent.

    Example:
        >>> try:
        ...     await app.later_many(messages)
        ... except PublishManyFailed as failed:
        ...     again = [messages[i] for i in failed.errors]
    """

    def __init__(self, message: str, *, results: "list[object]") -> None:
        super().__init__(message)
        self.results = results

    @property
    def errors(self) -> "dict[int, Exception]":
        """The errors by position in the list that was given."""
        return {i: r for i, r in enumerate(self.results) if isinstance(r, Exception)}
