"""Whether a body is one that a job can be given: anyone may have written it.

Its headers are read by `amqpjobs.jobs.message.headers`. Changes when another kind of body is taken.
"""

from typing import NoReturn

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.compression import ENCODINGS, decompressed
from amqpjobs.jobs.message.properties import JSON


def check_content(content_type: str | None, encoding: str | None) -> None:
    """A stranger may leave the type out, or say more than needed; JSON it must be."""
    if content_type and content_type.partition(";")[0].strip().lower() != JSON:
        raise DecodeError(f"content type {content_type[:100]!r}; it must be {JSON}")
    if encoding and encoding.lower() not in ("utf-8", "identity"):
        raise DecodeError(f"content encoding {encoding[:100]!r} is not accepted")


def decoded_body(
    content_type: str | None, encoding: str | None, body: bytes, largest: int
) -> bytes:
    """A body as a job's arguments are read from it: what is compressed is undone.

    Raises:
        DecodeError: it is no JSON by its type, or in an encoding that is not accepted; or what is
            compressed makes no sense, or becomes more than the largest body.
    """
    name = encoding.lower() if encoding else None
    if name not in ENCODINGS:
        check_content(content_type, encoding)
        return body
    check_content(content_type, None)
    return decompressed(body, name, largest)


def too_large(body: bytes, limit: int) -> NoReturn:
    """Refuse a body."""
    raise DecodeError(f"the body has {len(body)} bytes, AMQPJOBS_MAX_MESSAGE_SIZE is {limit}")
