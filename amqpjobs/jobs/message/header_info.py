"""What people are told of a header, and what the headers say together. Changes when either does."""

from typing import Final, NamedTuple

LAST_MOMENT: Final = 2**53 / 1000
"""Seconds since the epoch. Beyond, a float does not have milliseconds any more."""


class HeaderInfo(NamedTuple):
    """What a header is.

    Attributes:
        type: in words; AMQP has several types for an integer and for text.
        meaning: what it says, for people.
        minimum: of an integer.
        default: what a missing one means.
    """

    type: str
    meaning: str
    minimum: int | None = None
    default: int | None = None


class JobHeaders(NamedTuple):
    """What a message says of when its job is run, and of earlier runs.

    Attributes:
        attempt: which run, from 1.
        deadline: seconds since the epoch, after which it is not started; None for no deadline.
        due: seconds since the epoch, before which it is not started; None for at once.
        epoch: how often the job was replayed from the dead letters.
    """

    attempt: int = 1
    deadline: float | None = None
    due: float | None = None
    epoch: int = 0


def milliseconds(time: float) -> int:
    """A time in seconds since the epoch as headers have it. Rounded up: never early."""
    nearest = round(time * 1000)
    return nearest if nearest / 1000 >= time else nearest + 1
