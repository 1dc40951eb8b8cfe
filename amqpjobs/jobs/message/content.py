"""Whether a body is one that a job can be given, by what its properties say: anyone may have
written it.

Its headers are read by `amqpjobs.jobs.message.headers`. Changes when another kind of body is taken.
"""

from typing import Final, NoReturn, Protocol

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.bodies import ANYTHING, Body, content_type_of, format_name, own
from amqpjobs.jobs.message.compression import ENCODINGS, decompressed
from amqpjobs.jobs.message.properties import JSON, Headers

SHOWN: Final = 100
"""Characters of a content type that an error shows."""

NOT_ENCODED: Final = frozenset({"utf-8", "utf8", "identity", "binary", "us-ascii", "ascii"})
"""Content encodings that say nothing to be undone. Kombu writes the name of a charset, or `binary`
(https://github.com/celery/kombu, `kombu/serialization.py`)."""


class Described(Protocol):
    """The properties that say what a body is: of a delivery, or `Properties`."""

    @property
    def content_type(self) -> str | None:
        """As sent."""
        ...

    @property
    def content_encoding(self) -> str | None:
        """As sent."""
        ...

    @property
    def headers(self) -> Headers:
        """All of them."""
        ...


def is_json(content_type: str) -> bool:
    """Whether a content type says JSON: ``application/json``, ``text/json``, or one with ``+json``
    (RFC 6839)."""
    media = media_type(content_type)
    suffixed = media.startswith("application/") and media.endswith("+json")
    return suffixed or media in (JSON, "text/json")


def media_type(content_type: str) -> str:
    """A content type without its parameters, in small letters."""
    return content_type.partition(";")[0].strip().lower()


def received(body: Body | None, said: Described, data: bytes, largest: int) -> bytes:
    """A body as the arguments of a job are read from it: decompressed, and with what the format has
    in headers.

    Args:
        body: the format of the job; None for JSON.
        said: the properties of the message.
        data: as it came.
        largest: bytes that it may become.

    Raises:
        DecodeError: its content type is another one, or its encoding is not accepted; or what is
            compressed is malformed, or becomes more than the largest body.
    """
    content_type, encoding = said.content_type, said.content_encoding
    name = encoding.lower() if encoding else None
    _check_type(body, content_type)
    if name in ENCODINGS:
        data = decompressed(data, name, largest)
    elif name is not None and name not in NOT_ENCODED:
        raise DecodeError(f"content encoding {name[:SHOWN]!r} is not accepted")
    if body is None or (arranged := own(body, "received")) is None:
        return data
    headers = said.headers
    try:
        found: bytes = arranged(content_type, headers, data)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - anyone may have written the headers
        words = f"{format_name(body)} cannot read the message: {type(error).__name__}"
        raise DecodeError(words) from None
    return found


def _check_type(body: Body | None, content_type: str | None) -> None:
    """A stranger may leave the type out, or say more than needed."""
    if not content_type:
        return
    if body is None:
        if not is_json(content_type):
            raise DecodeError(f"content type {content_type[:SHOWN]!r}; it must be {JSON}")
        return
    said = content_type_of(body)
    accepted = own(body, "accepts", None if said is None else frozenset({media_type(said)}))
    if accepted is None or media_type(content_type) in accepted | {ANYTHING}:
        return
    if said == JSON and is_json(content_type):
        return
    raise DecodeError(
        f"content type {content_type[:SHOWN]!r}; the format of the job, {format_name(body)}, "
        f"takes {' or '.join(sorted(accepted))}"
    )


def too_large(body: bytes, limit: int) -> NoReturn:
    """Refuse a body."""
    raise DecodeError(f"the body has {len(body)} bytes, AMQPJOBS_MAX_MESSAGE_SIZE is {limit}")
