"""The formats of a message's body: JSON, bytes, text, MessagePack, and those of other people.

A format turns plain data into bytes and back; what the data means is up to the annotations of a
job. Changes when a format is added, or a format may say something else about itself.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar, Final, Protocol, TypeAlias, runtime_checkable

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install
from amqpjobs.jobs.message.own_headers import HeaderValue
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.roundtrip.natives import NATIVES

ANYTHING: Final = "application/octet-stream"
"""The content type that says nothing."""

LONGEST_TYPE: Final = 255
"""Characters of a content type: AMQP's own limit."""


@runtime_checkable
class Body(Protocol):
    """The format of a body: ``@app.job(queue=..., body=...)``. Any object with these two methods.

    It may have an attribute ``content_type``: the AMQP content type that its messages are sent
    with. A worker then refuses messages that name another one; `application/octet-stream` and no
    content type at all are accepted. Without the attribute a worker accepts every content type.

    Example:
        >>> class Lines:
        ...     content_type = "text/csv"
        ...
        ...     def load(self, data: bytes) -> list[str]:
        ...         return data.decode().split(",")
        ...
        ...     def dump(self, value: object) -> bytes:
        ...         return ",".join(value).encode()
    """

    def load(self, data: bytes, /) -> Any:
        """Decode a body. The result is validated by the annotation of the job's parameter; a job
        of several parameters needs a mapping by their names.

        Args:
            data: the body, after decompression. Any program may have written it.

        Raises:
            Exception: whatever it is, the message becomes a dead letter with the reason
                ``invalid``, unchanged. It is not retried.
        """
        ...

    def dump(self, value: Any, /) -> bytes:
        """Encode an argument.

        Args:
            value: what JSON has: a dict, list, str, int, float, bool or None; a model as a dict, a
                datetime as text. Bytes, and objects that JSON cannot hold, are passed as they are.

        Raises:
            Exception: the caller gets `InvalidArguments`.
        """
        ...


GivenBody: TypeAlias = Body | type[Body] | None
"""A format as users give it: an object, or a class that is instantiated without arguments."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A body as it is published.

    Attributes:
        data: the body.
        content_type: the AMQP content type; None for none.
        headers: that belong to the body.
    """

    data: bytes
    content_type: str | None
    headers: Mapping[str, HeaderValue]


class Json:
    """JSON: the format of every job that names no other.

    Example:
        >>> Json().load(b'{"order": 7}')
        {'order': 7}
    """

    content_type: ClassVar[str] = JSON

    def __repr__(self) -> str:
        return "Json()"

    def load(self, data: bytes, /) -> Any:
        """See `Body.load`."""
        from pydantic_core import from_json

        return from_json(data, allow_inf_nan=False)

    def dump(self, value: Any, /) -> bytes:
        """See `Body.dump`."""
        from pydantic_core import to_json

        return to_json(value, bytes_mode="base64")


class Bytes:
    """The body as it is: the job takes one parameter, which is ``bytes``. Every content type is
    accepted.

    Example:
        >>> @app.job(queue="reports", body=Bytes)
        ... async def store(image: bytes) -> int:
        ...     return len(image)
        >>> await store.request(b"jpeg")
        4
    """

    content_type: ClassVar[str] = ANYTHING
    accepts: ClassVar[frozenset[str] | None] = None
    single: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "Bytes()"

    def load(self, data: bytes, /) -> bytes:
        """See `Body.load`."""
        return data

    def dump(self, value: Any, /) -> bytes:
        """See `Body.dump`.

        Raises:
            TypeError: it is no bytes.
        """
        if not isinstance(value, bytes | bytearray | memoryview):
            raise TypeError(f"body=Bytes sends bytes, not {type(value).__name__}")
        return bytes(value)


class Text:
    """The body as text in UTF-8: the job takes one parameter, a ``str``, a number, or what pydantic
    reads from text, such as a ``UUID``. Every content type is accepted.

    Example:
        >>> @app.job(queue="reports", body=Text)
        ... async def note(line: str) -> str:
        ...     return line.upper()
        >>> await note.request("hello")
        'HELLO'
    """

    content_type: ClassVar[str] = "text/plain"
    accepts: ClassVar[frozenset[str] | None] = None
    single: ClassVar[bool] = True

    def __repr__(self) -> str:
        return "Text()"

    def load(self, data: bytes, /) -> str:
        """See `Body.load`.

        Raises:
            UnicodeDecodeError: it is not UTF-8.
        """
        return data.decode()

    def dump(self, value: Any, /) -> bytes:
        """See `Body.dump`.

        Raises:
            TypeError: it is neither text nor a number.
            UnicodeEncodeError: text with half of a surrogate pair.
        """
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(f"body=Text sends text or a number, not {type(value).__name__}")
        return str(value).encode()


class MsgPack:
    """MessagePack (https://msgpack.org). Needs the extra ``msgpack``.

    Bytes are sent as bytes. A datetime is sent as text in ISO 8601, as in JSON; both that and the
    timestamp type of MessagePack are read. Other extension types are refused.

    Args:
        timestamps: send datetimes that have a time zone as timestamps of MessagePack, which are
            always UTC.
        any_keys: read maps whose keys are numbers, too. Keys that a stranger chooses can make a
            map slow, so only text and bytes are keys by default.

    Raises:
        ConfigurationError: msgpack is not installed.

    Example:
        >>> MsgPack().load(MsgPack().dump({"image": b"jpeg"}))
        {'image': b'jpeg'}
    """

    content_type: ClassVar[str] = "application/msgpack"
    accepts: ClassVar[frozenset[str] | None] = frozenset(
        {"application/msgpack", "application/vnd.msgpack", "application/x-msgpack"}
    )
    """The name that IANA has registered is the second. Kombu writes the third."""
    natives: frozenset[str] = NATIVES

    def __init__(self, *, timestamps: bool = False, any_keys: bool = False) -> None:
        # Here and not in `load`: a worker that lacks it does not start, and no message is lost.
        self._msgpack = _msgpack()
        self.timestamps, self.any_keys = timestamps, any_keys
        if timestamps:
            self.natives = NATIVES | {"datetime"}

    def __repr__(self) -> str:
        given = [name for name in ("timestamps", "any_keys") if getattr(self, name)]
        return f"MsgPack({', '.join(f'{name}=True' for name in given)})"

    def load(self, data: bytes, /) -> Any:
        """See `Body.load`.

        Raises:
            ValueError: it is malformed, cut off, or has something behind it.
        """
        strict = not self.any_keys
        unpackb = self._msgpack.unpackb
        return unpackb(data, strict_map_key=strict, timestamp=3, ext_hook=_no_extension)

    def dump(self, value: Any, /) -> bytes:
        """See `Body.dump`.

        Raises:
            TypeError: an object that MessagePack does not have.
            OverflowError: a whole number of more than 64 bits.
        """
        packed: bytes = self._msgpack.packb(value, datetime=self.timestamps)
        return packed


def _no_extension(code: int, _: bytes) -> object:
    raise ValueError(f"it has the extension type {code}")


def _msgpack() -> Any:
    try:
        import msgpack  # type: ignore[import-untyped]
    except ImportError:
        words = f"body=MsgPack needs msgpack: {install('amqpjobs[msgpack]')}"
        raise ConfigurationError(words) from None
    return msgpack


def body_of(given: Any) -> Body | None:
    """The format that a user gives; None for JSON.

    Raises:
        ConfigurationError: it is none.
    """
    if given is None or given is Json or type(given) is Json:
        return None
    if isinstance(given, ModuleType):
        raise ConfigurationError(
            f"body= is an object with load(data: bytes) and dump(value), and not the module "
            f"{given.__name__!r}, whose functions may be for files: write a class with these two "
            "methods"
        )
    body = _instance(given) if isinstance(given, type) else given
    for name in ("load", "dump"):
        method = getattr(body, name, None)
        if not callable(method):
            raise ConfigurationError(
                f"body= is Json, Bytes, Text, MsgPack, CloudEvent, or an object with "
                f"load(data: bytes) and dump(value); {body!r} has no {name}"
            )
        if inspect.iscoroutinefunction(method):
            owner = format_name(body)
            raise ConfigurationError(f"{name} of {owner} is an `async def`: write a `def`")
    content_type = getattr(body, "content_type", None)
    if isinstance(content_type, str) and not (
        0 < len(content_type) <= LONGEST_TYPE and content_type.isascii()
    ):
        raise ConfigurationError(
            f"content_type of {format_name(body)} is text of up to {LONGEST_TYPE} ASCII characters"
        )
    found: Body = body
    return found


def _instance(given: Callable[[], Any]) -> Any:
    try:
        return given()
    except TypeError as error:
        raise ConfigurationError(
            f"body={given.__name__} is called without arguments, which fails: {error}. Give an "
            f"object: body={given.__name__}(...)"
        ) from error


def format_name(body: Body) -> str:
    """A format, for people."""
    return type(body).__name__


@lru_cache(maxsize=256)
def _is_ours(kind: type, name: str) -> bool:
    return any(name in vars(c) and c.__module__.startswith("amqpjobs.") for c in kind.__mro__)


def own(body: Body, name: str, default: Any = None) -> Any:
    """An attribute that only formats of amqpjobs have. A format of a user's may have one of this
    name that means something else."""
    return getattr(body, name, default) if _is_ours(type(body), name) else default


def content_type_of(body: Body | None) -> str | None:
    """What messages of a format are sent with; None where it does not say."""
    if body is None:
        return JSON
    found = getattr(body, "content_type", None)
    return found if isinstance(found, str) else None
