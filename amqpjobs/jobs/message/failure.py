"""Why a message was put aside, as a value. Changes when there is more to say about a failure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message was put aside: the ``amqpjobs-error`` header of a dead or parked message.

    Attributes:
        reason: one word for the kind, such as ``failed``, ``invalid`` or ``unknown-job``.
        message: what a person should read. It never holds the job's arguments.
        exception: the exception's qualified name, if there was one.
        frames: the innermost stack frames, innermost first: ``module:line function``.
        job: the job's name, if known.
        queue: the queue that the message was consumed from.
        worker: host and process id of the worker.
        time: seconds since the epoch.
        attempt: which run it was, from 1.
    """

    reason: str
    message: str
    exception: str | None = None
    frames: tuple[str, ...] = ()
    job: str | None = None
    queue: str | None = None
    worker: str | None = None
    time: float | None = None
    attempt: int | None = None
