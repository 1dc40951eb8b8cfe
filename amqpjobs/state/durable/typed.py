"""Converts results of steps to JSON and back, and computes fingerprints of arguments.

Changes when a result may be something else.
"""

from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from inspect import unwrap
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import PydanticSerializationError, to_json

from amqpjobs.errors import InvalidResult
from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of
from amqpjobs.jobs.roundtrip.findings import findings

LARGEST = 256 * 1024
"""Bytes of the result of a step, as JSON."""

NO_HINT = object()


class Typed:
    """Turns values of one type into JSON and back.

    Args:
        what: whose values they are, for errors.
        kind: their type; `NO_HINT` for what JSON has by itself.
        adapter: of that, if it is known.
    """

    def __init__(
        self, what: str, kind: Any = NO_HINT, *, adapter: TypeAdapter[Any] | None = None
    ) -> None:
        self._what = what
        self._adapter: TypeAdapter[Any] = (
            adapter_of(Any if kind is NO_HINT else kind) if adapter is None else adapter
        )

    def dump(self, value: Any, largest: int = LARGEST) -> bytes:
        """A value as JSON.

        Raises:
            InvalidResult: it cannot become JSON, or is too large.
        """
        try:
            data = self._adapter.dump_json(value, by_alias=True, warnings="error")
        except (PydanticSerializationError, RecursionError, ValueError) as error:
            # Of several lines the second says what it is.
            first = " ".join(str(error).split("\n", 2)[:2]) or type(error).__name__
            raise InvalidResult(f"{self._what} returned what cannot become JSON: {first}") from None
        if len(data) > largest:
            raise InvalidResult(
                f"{self._what} returned {len(data)} bytes of JSON, the limit is {largest}: store "
                "it elsewhere and return its location"
            )
        return data

    def load(self, data: bytes) -> Any:
        """A value of JSON.

        Raises:
            InvalidResult: it is not what the type allows.
        """
        try:
            return self._adapter.validate_json(data)
        except PydanticValidationError as error:
            found = findings(error, self._adapter)
            told = "; ".join(f"{at or 'result'}: {words}" for at, words in found)
            raise InvalidResult(
                f"{self._what} has stored what its type does not allow: {told}"
            ) from None


def typed_of(what: str, function: Callable[..., Any]) -> Typed:
    """For what a function returns."""
    try:
        adapter = _adapter_of(function)
    except TypeError:  # an object that is called, and has no hash
        adapter = _adapter_of.__wrapped__(function)
    return Typed(what, adapter=adapter)


@lru_cache(512)
def _adapter_of(function: Callable[..., Any]) -> TypeAdapter[Any]:
    try:
        hints = get_type_hints(unwrap(function), include_extras=True)
    except Exception:  # noqa: BLE001 - what is imported for type checkers alone is not there
        hints = {}
    return adapter_of(hints.get("return", Any))


def fingerprint(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The fingerprint of arguments. Equal arguments have the same one. Of a value that JSON cannot
    hold, such as a client, only the type counts."""
    data = to_json([args, kwargs], bytes_mode="base64", fallback=_named, serialize_unknown=False)
    return sha256(data).hexdigest()


def _named(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
