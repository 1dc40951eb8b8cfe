"""Whether a body is one that a job can be given: anyone may have written it.

Its headers are read by `amqpjobs.jobs.message.headers`. Changes when another kind of body is taken.
"""

from typing import NoReturn

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.properties import JSON


def check_content(content_type: str | None, encoding: str | None) -> None:
    """A stranger may leave the type out, or say more than needed; JSON it must be."""
    if content_type and content_type.partition(";")[0].strip().lower() != JSON:
        raise DecodeError(f"content type {content_type[:100]!r}; it must be {JSON}")
    if encoding and encoding.lower() not in ("utf-8", "identity"):
        raise DecodeError(f"content encoding {encoding[:100]!r} is not accepted")


def too_large(body: bytes, limit: int) -> NoReturn:
    """Refuse a body."""
    raise DecodeError(f"the body has {len(body)} bytes, AMQPJOBS_MAX_MESSAGE_SIZE is {limit}")
