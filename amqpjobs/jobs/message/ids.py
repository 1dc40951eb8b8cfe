"""Ids of jobs: new ones, and ids derived from a key, which make a duplicate recognisable.

Changes when an id is made in another way.
"""

import json
import os
import re
import time

from amqpjobs.errors import ConfigurationError

_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


_STOCK = 128
"""So many pieces of random digits are got at once: one system call costs as much as making ten."""

_stock: list[str] = []


def random_digits() -> str:
    """32 hexadecimal digits of the system's random source: 128 bits that nobody can guess."""
    try:
        return _stock.pop()  # one step, also for threads
    except IndexError:
        digits = os.urandom(16 * _STOCK).hex()
        _stock.extend(digits[start : start + 32] for start in range(32, len(digits), 32))
        return digits[:32]


# Or both processes would go on with the same digits.
os.register_at_fork(after_in_child=_stock.clear)


def new_job_id() -> str:
    """A UUID of version 7 (RFC 9562): sorts by time, and is made without asking anybody."""
    # Put together from digits: half the time of shifting and masking one large number.
    time_ = f"{time.time_ns() // 1_000_000:012x}"
    random = random_digits()
    return (
        f"{time_[:8]}-{time_[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[7:19]}"
    )


_NEW_JOB_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_new_job_id(job_id: str) -> bool:
    """Whether an id has the form of those that `new_job_id` makes."""
    return _NEW_JOB_ID.fullmatch(job_id) is not None


def time_of(job_id: str) -> float:
    """When an id of that form was made: seconds since the epoch."""
    return int(job_id[:8] + job_id[9:13], 16) / 1000


def new_token() -> str:
    """A random token that tells one publish of a job from every other."""
    return random_digits()[:16]


LONGEST_LINE = 100
"""Characters of a line that copies keep."""


def next_token(token: str | None) -> str:
    """The token of a copy: all copies that come of one publish have one line, and no two publishes
    have the same. By it a later run of a job is told from a run of its duplicate."""
    line = line_of(token)
    return f"{line}.{new_token()}" if len(line) <= LONGEST_LINE else new_token()


def line_of(token: str | None) -> str:
    """What the tokens of a publish and of all its copies have in common."""
    return (token or "").partition(".")[0]


NAMESPACE = "5f0e3a52-6a9b-5f1c-9d3e-6b1c8e3f7a10"
"""Of the ids below. Any change to it, or to how it is used, makes old duplicates new jobs."""


def derived_id(*parts: str) -> str:
    """A UUID of version 5 (RFC 9562): the same parts give the same id, in every process."""
    import uuid  # here: every program imports this module, few derive an id

    return str(uuid.uuid5(uuid.UUID(NAMESPACE), json.dumps(parts)))


def keyed_id(app: str, job: str, key: str) -> str:
    """The id of a job that is enqueued with a key: over HTTP with an ``Idempotency-Key``, or by
    ``amqpjobs enqueue --key``. Both of one key are the same job."""
    return derived_id("key", app, job, key)


def check_job_id(job_id: object) -> None:
    """Check that a value can be the id of a job.

    Raises:
        ConfigurationError: it is no text, or is too short or too long.
    """
    if not isinstance(job_id, str) or not 0 < len(job_id.encode()) <= 255 or "\0" in job_id:
        raise ConfigurationError(
            f"the id of a job must be a text of 1 to 255 bytes, not {job_id!r}"
        )
