"""Arguments in another format than JSON: decoded by the format, validated by the annotations.

Changes when a format and the arguments of a job meet in another way.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, TypeVar

from pydantic import PydanticUserError, TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticSerializationError

from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.message.arguments import MOST, Arguments, Payload, first_line
from amqpjobs.jobs.message.bodies import ANYTHING, Body, Encoded, content_type_of, format_name, own
from amqpjobs.jobs.message.message import Message, has_own_id, takes_own_id
from amqpjobs.jobs.message.own_headers import NO_OWN_HEADERS, OwnHeaders
from amqpjobs.jobs.roundtrip.findings import findings
from amqpjobs.jobs.roundtrip.natives import NATIVES
from amqpjobs.jobs.roundtrip.plain import PlainData, lost

R = TypeVar("R")

EMPTY_VALUES: Final[tuple[Any, ...]] = ({}, None, "", b"", [])
"""What a message for a job without parameters may have."""


class FormattedPayload(Payload):
    """The parameters of a job whose messages have a format of their own.

    One parameter: the format's value is its value. Several: the value is a mapping by their names.
    What is sent arrives equal, or is refused, as with JSON.

    Args:
        body: the format.
        job: the job's name, for messages to people.
        parameters: the parameters to send, in order; ``self`` first for a method.
        hints: the annotation of each.
        source: the name of the app that sends, for a format that says it.

    Raises:
        ConfigurationError: the format and the parameters do not go together.
    """

    def __init__(
        self,
        body: Body,
        job: str,
        parameters: list[inspect.Parameter],
        hints: Mapping[str, Any],
        source: Callable[[], str],
    ) -> None:
        self.format = format_name(body)
        if own(body, "single", False) and len(parameters) != 1:
            raise ConfigurationError(
                f"job {job!r}: body={self.format} makes one value of a message, so the job takes "
                f"one parameter, and this one takes {len(parameters)}"
            )
        super().__init__(job, parameters, hints)
        bound = own(body, "bound")
        if bound is not None:
            body = bound(hints[parameters[0].name], source, job)
        self._body = body
        self._sent: Callable[[bytes], Encoded] | None = own(body, "sent")
        self._filled: Callable[[Any], Any] | None = own(body, "filled")
        self._plain: PlainData | None = None
        if parameters:
            natives = own(body, "natives", NATIVES)
            try:
                self._plain = PlainData(self._annotation(parameters, hints), natives)
            except PydanticUserError as error:
                raise ConfigurationError(f"job {job!r}: {first_line(error)}") from error

    def dump(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Validate arguments and encode them.

        Raises:
            InvalidArguments: they do not fit, or the format cannot hold them.
        """
        value = self._value(args, kwargs)
        if self._filled is not None:
            value = self._filled(value)
        if self._plain is None:
            return self._dumped({})
        try:
            checked, data = self._plain.write(value)
            body = self._dumped(data)
            found = lost(checked, self._plain.read(self._loaded(body)))
        except PydanticValidationError as error:
            told = self._describe(error, findings(error, self._plain.adapter))
            raise self._refusal(told) from None
        except DecodeError as error:
            raise self._refusal(f"it cannot read what it has written: {error}") from None
        except (PydanticSerializationError, RecursionError) as error:
            raise self._refusal(f"an argument cannot be sent: {first_line(error)}") from error
        if found is not None:
            raise self._refusal(f"{self._at('.'.join(found.place))}: {found.words}")
        return body

    def _dumped(self, data: Any) -> bytes:
        try:
            body: Any = self._body.dump(data)  # the user's: whatever it says it returns
        except Exception as error:
            raise self._refusal(
                f"an argument cannot become {self.format}: {first_line(error)}"
            ) from error
        if not isinstance(body, bytes | bytearray | memoryview):
            words = f"{self.format}.dump returned {type(body).__name__}; it has to return bytes"
            raise self._refusal(words)
        return bytes(body)

    def _refusal(self, words: str) -> InvalidArguments:
        return InvalidArguments(f"{self.job}: {words}", job=self.job)

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Encoded:
        """The same, as it is published.

        Raises:
            InvalidArguments: as `dump`.
        """
        body = self.dump(args, kwargs)
        if self._sent is not None:
            return self._sent(body)
        return Encoded(body, content_type_of(self._body) or ANYTHING, NO_OWN_HEADERS)

    def addressed(self, encoded: Encoded, message: Message[Any]) -> Encoded:
        """The same for one message, whose id a format may need in a header."""
        return encoded

    def load(self, body: bytes) -> Arguments:
        """Decode a body and validate it.

        Raises:
            DecodeError: the format cannot read it, or it does not fit; never shows the values.
        """
        data = self._loaded(body)
        if self._plain is None:
            if data in EMPTY_VALUES:
                return (), {}
            raise DecodeError(f"{self.job} takes no arguments, and the message has some")
        try:
            return self._spread(self._plain.read(data))
        except PydanticValidationError as error:
            found = findings(error, self._plain.adapter, MOST)
            raise DecodeError(self._describe(error, found), found) from None

    def _loaded(self, body: bytes) -> Any:
        try:
            return self._body.load(body)
        except DecodeError as error:
            raise DecodeError(f"{self.job}: {error}") from None
        except BaseException as error:  # noqa: BLE001 - the user's; one may call `sys.exit`
            # Without its text, which may show the data.
            raise DecodeError(
                f"{self.job}: {self.format} cannot read the body: {type(error).__name__}"
            ) from None

    def dump_json(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """See `Payload.dump_json`."""
        return super().dump(args, kwargs)

    def load_json(self, body: bytes) -> Arguments:
        """See `Payload.load_json`."""
        return super().load(body)

    def json_of(self, name: str, value: Any) -> bytes:
        """The value of one parameter as JSON.

        Raises:
            InvalidArguments: it cannot become JSON.
        """
        try:
            return super().json_of(name, value)
        except PydanticSerializationError as error:
            raise self._refusal(
                f"{name!r} cannot become JSON, as a key needs it: {first_line(error)}. Give "
                "key=lambda ...: a text"
            ) from None

    @property
    def adapter(self) -> TypeAdapter[Any] | None:
        """What validates the value of the format; None for a job without arguments."""
        return None if self._plain is None else self._plain.adapter


def encoded_call(
    payload: Payload,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    make: Callable[[bytes], Message[R]],
) -> Message[R]:
    """A call of a job with a format of its own.

    Args:
        make: makes a message of a body.

    Raises:
        InvalidArguments: the arguments do not fit.
    """
    assert isinstance(payload, FormattedPayload)  # noqa: S101 - that of such a job
    encoded = payload.encode(args, kwargs)
    message = make(encoded.data)
    return with_format(message, payload.addressed(encoded, message))


def with_format(message: Message[R], encoded: Encoded) -> Message[R]:
    """The same message, with what its format says of the body."""
    options = message.options
    if encoded.headers:
        options = replace(options, headers=OwnHeaders({**encoded.headers, **options.headers}))
    changed = replace(message, content_type=encoded.content_type or ANYTHING, options=options)
    return has_own_id(changed) if takes_own_id(message) else changed
