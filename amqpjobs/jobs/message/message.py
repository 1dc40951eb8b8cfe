"""A call of a job that can be sent, as a value. Changes when a call gets another option."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, HeaderValue
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.retry import Retry

P = ParamSpec("P")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Options:
    """What one call may say about itself, beyond its arguments.

    Attributes:
        priority: the name of one of the queue's ``priorities``, or a number on a classic queue with
            ``max_priority``; None for the queue's middle one.
        expires: seconds after which a job that was not started is no longer run.
        timeout: seconds that this call itself may take: for ``later`` until the broker has
            confirmed; None for the setting ``AMQPJOBS_PUBLISH_TIMEOUT``; for ``request`` until
            the answer is there; None for ``AMQPJOBS_REQUEST_TIMEOUT``.
        delay: seconds, counted from publishing, before which it is not started.
        at: the same as a time: seconds since the epoch.
        headers: of the message: each a str, bool, int or float. Checked when it is published.
        queue: the name of the queue it goes to; None for the job's own. Read when the message is
            made, as the priority and the id are.
        retry: the numbers of its retries; None for the job's own.
        run_timeout: seconds that one run may take; None for the job's own.
        id: of the job, chosen by the caller; None for a new one.
        tags: words for people.
        callbacks: what is enqueued when the job has ended; None for nothing.
    """

    priority: str | int | None = None
    expires: float | None = None
    timeout: float | None = None
    delay: float | None = None
    at: float | None = None
    headers: Mapping[str, HeaderValue] = NO_OWN_HEADERS
    queue: str | None = None
    retry: Retry | None = None
    run_timeout: float | None = None
    id: str | None = None
    tags: tuple[str, ...] = ()
    callbacks: "Callbacks | None" = None

    def due(self, now: float) -> float | None:
        """Not to be started before this time (seconds since the epoch), if it is still to come."""
        due = now + self.delay if self.delay is not None else self.at
        return due if due is not None and due > now else None


NO_OPTIONS = Options()


class _Unsent:
    """Whether a message has an id of its own and was not published yet. No field: a message that is
    made of another one, by `dataclasses.replace` or a copy, shares its id and has no such mark."""

    __slots__ = ("_unsent",)
    _unsent: bool


@dataclass(frozen=True, slots=True)
class Message(_Unsent, Generic[R_co]):
    """A call of a job, validated and encoded, ready to be sent: ``job.message(x)``.

    Its arguments are a snapshot: what happens to the objects afterwards changes nothing.

    Attributes:
        id: the job's id: a UUID of version 7, or the caller's own. The same over all its runs.
        job: the job's name.
        queue: the queue it goes to (the one of its priority).
        body: the arguments, as JSON or in the format of the job.
        tracked: the queue as its status shows it, whatever the priority; None for a job whose
            status nobody is told.
        content_type: of the body.
    """

    id: str
    job: str
    queue: str
    body: bytes
    options: Options = NO_OPTIONS
    native_priority: int | None = None
    tracked: str | None = None
    content_type: str = JSON

    def then(
        self, job: "Follower[Concatenate[R_co, P], S]", /, *rest: P.args, **named: P.kwargs
    ) -> "Pipeline[S]":
        """Run a job after this one, with the result of this one as its first argument. See the
        guide, "Pipelines".

        Args:
            job: the next job, with its options: ``job.with_options(...)``.
            rest: its further arguments, after the first.
            named: its further arguments, by name.

        Returns:
            A message for both jobs. Enqueue it in place of this one. Its result is the result of
            `job`.

        Raises:
            InvalidArguments: the further arguments do not fit.
            ConfigurationError: the job takes no argument, or has an option that a job in a pipeline
                cannot have; or the extra ``sql`` is missing, since a pipeline is a durable job.

        Example:
            >>> pipeline = build_report.message(12).then(shorten, 9)
            >>> await app.request(pipeline)
            'report 12'
        """
        follow = getattr(job, "_after", None)
        if follow is None:
            raise ConfigurationError(
                f"then(...) takes a job and its arguments after the first one, not {job!r}"
            )
        joined: Pipeline[S] = follow(self, rest, named)
        return joined


class Pipeline(Message[R_co]):
    """Jobs one after the other, or side by side, as one message. `Message.then` and `group` return
    it. It can be enqueued, requested and called like any message. Its result is that of the last
    job.

    The message calls a durable job that is part of amqpjobs and runs on the queue of the first
    message.
    """

    __slots__ = ()


class Follower(Protocol[P, S_co]):
    """A job that can follow another one in a pipeline. `Job` implements it."""

    def message(self, *args: P.args, **kwargs: P.kwargs) -> Message[S_co]:
        """A message that calls the job."""
        ...


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is enqueued when a job has ended.

    Attributes:
        success: when it is done.
        failure: when it has failed for good.
    """

    success: Message[Any] | None = None
    failure: Message[Any] | None = None


_mark, _unmark = object.__setattr__, object.__delattr__


def has_own_id(message: Message[R_co]) -> Message[R_co]:
    """Mark a message whose id was made for it: until it is published, nothing else has that id."""
    _mark(message, "_unsent", True)
    return message


def takes_own_id(message: Message[R_co]) -> bool:
    """Whether this publish of a message is the only one with its id. True once at most."""
    try:
        _unmark(message, "_unsent")  # one step, since two threads may publish it at a time
    except AttributeError:
        return False
    return True


def with_headers(message: Message[R_co], headers: Mapping[str, HeaderValue]) -> Message[R_co]:
    """The same message with these headers, to be published in its place."""
    changed = replace(message, options=replace(message.options, headers=headers))
    return has_own_id(changed) if takes_own_id(message) else changed
