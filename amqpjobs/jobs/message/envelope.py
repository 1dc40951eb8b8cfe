"""What another job system puts around the body of a job, in a queue that both consume.

A format of bodies (`amqpjobs.jobs.message.bodies`) whose attribute ``envelope`` is such an object
says how the messages of that system are read as jobs, and what it expects when they have ended. Its
attribute ``no_request`` says why such a job cannot be requested. Changes when a worker has to know
more of another system.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties

DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job has ended for good.

    Attributes:
        word: ``done``, ``failed``, ``cancelled`` or ``expired``.
        now: when, in seconds since the epoch.
        result: what it returned, as JSON.
        failure: why it has failed; None where it did not.
        error: the exception; None where there was none.
    """

    word: str
    now: float
    result: bytes = b"null"
    failure: Failure | None = None
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message for another system, and the AMQP queue that it goes to."""

    queue: str
    properties: Properties
    body: bytes


class Envelope(Protocol):
    """How the messages of another job system are read, and what follows them.

    Anyone may have written these messages. Only a `DecodeError` is raised.
    """

    def read(self, properties: Properties, body: bytes) -> Properties | None:
        """The properties that a job of ours would have: ``type`` and ``message_id`` are its name
        and id, headers of ours say what its own say. A ``reply_to`` of "" is no reply queue, and is
        answered all the same. With the header of callbacks, `followers` is called at its end.

        Returns:
            None if it is no message of that system: it is read as one of ours.

        Raises:
            DecodeError: it makes no sense.
        """
        ...

    def replies(self, properties: Properties, body: bytes, ending: Ending) -> Sequence[Addressed]:
        """What is sent to those who wait for a job that has ended.

        Args:
            properties: of the message, as it came.
            body: the same.
            ending: how it has ended.
        """
        ...

    def followers(self, properties: Properties, body: bytes, ending: Ending) -> Sequence[Addressed]:
        """What is sent to queues of jobs when a job has ended; one without a queue goes to that of
        the job itself.

        Raises:
            DecodeError: what should follow makes no sense.
        """
        ...
