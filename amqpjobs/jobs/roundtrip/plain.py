"""Values of an annotation as plain data, and back: what formats other than JSON are given.

Plain data is what pydantic makes of a value for JSON, but bytes stay bytes, and an object that JSON
cannot hold stays itself. Changes when another type stays as it is.
"""

import json
import math
from datetime import datetime
from secrets import token_hex
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaSerializer, SchemaValidator, core_schema

from amqpjobs.jobs.roundtrip.differences import Difference, differs
from amqpjobs.jobs.roundtrip.encoded_bytes import (
    NOT_SCHEMAS,
    TRANSPARENT,
    adapter_of,
    decoded,
    encoded,
)
from amqpjobs.jobs.roundtrip.natives import NATIVES
from amqpjobs.jobs.roundtrip.roundtrip import closed

_ITEMS: Final = {
    "list": ("items_schema",), "set": ("items_schema",), "frozenset": ("items_schema",),
    "dict": ("keys_schema", "values_schema"),
}  # fmt: skip
"""What a schema of a container has for its items; without it they may be anything."""


class _Kept(dict[str, Any]):
    """What JSON cannot hold, by the text that stands for it while pydantic writes all else.

    It is pydantic's context of one serialization. Nobody can write such a text who has not read it.
    """

    def __init__(self, natives: frozenset[str]) -> None:
        super().__init__()
        self.natives = natives
        self._token = ""

    def keep(self, value: Any) -> str:
        """The text that stands for a value."""
        self._token = self._token or token_hex(16)
        text = f"{self._token}:{len(self)}"
        self[text] = value
        return text

    def restored(self, data: Any) -> Any:
        """Plain data with the values themselves."""
        if isinstance(data, dict):
            return {self.get(key, key): self.restored(value) for key, value in data.items()}
        if isinstance(data, list):
            return [self.restored(each) for each in data]
        return self.get(data, data) if isinstance(data, str) else data


class PlainData:
    """Turns values of one annotation into plain data and back.

    Args:
        annotation: as pydantic takes it.
        natives: the types that stay as they are: ``bytes``, ``datetime``. Without ``bytes`` these
            are text in base64url, as in JSON.

    Raises:
        PydanticUserError: pydantic knows no such type.
    """

    def __init__(self, annotation: Any, natives: frozenset[str] = NATIVES) -> None:
        self.adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        schema = _native(self.adapter.core_schema, natives)
        if schema is not self.adapter.core_schema:
            # As in `adapter_of`: what pydantic has made before would not see the change.
            self.adapter.core_schema = schema
            self.adapter.validator = SchemaValidator(schema, _use_prebuilt=False)
            self.adapter.serializer = SchemaSerializer(schema, _use_prebuilt=False)
        own = closed(schema)
        self._validate = self.adapter.validator.validate_python
        whole = SchemaValidator(own, _use_prebuilt=False)
        self._check = self._validate if own is schema else whole.validate_python
        self._natives = natives
        self._json = adapter_of(annotation).validator.validate_json

    def write(self, value: Any) -> tuple[Any, Any]:
        """Validate a value.

        Returns:
            The value, validated, and its plain data.

        Raises:
            ValidationError, PydanticSerializationError, RecursionError: pydantic's own.
        """
        checked = self._check(value)
        kept = _Kept(self._natives)
        data = self.adapter.serializer.to_python(
            checked, mode="json", by_alias=True, round_trip=True, warnings=False, context=kept,
            fallback=kept.keep,
        )  # fmt: skip
        return checked, kept.restored(data) if kept else data

    def read(self, data: Any) -> Any:
        """Validate what a format has decoded.

        Raises:
            ValidationError: it does not fit.
        """
        try:
            return self._validate(data)
        except ValidationError:
            # A strict model takes text for a datetime, and a list for a tuple, from JSON alone.
            # What JSON can hold may be taken as JSON. Bytes cannot be mistaken for text that way.
            try:
                return self._json(json.dumps(data))
            except (ValidationError, TypeError, ValueError, RecursionError):
                pass
            raise


def lost(checked: Any, received: Any) -> Difference | None:
    """What of a value does not come back as it was."""
    return differs(checked, received)


def _native(schema: Any, natives: frozenset[str]) -> Any:
    """The schema whose values of these types stay as they are; the same object if there are none.
    A type with a serializer of its own is left as it is."""
    if isinstance(schema, list | tuple):
        found = [_native(each, natives) for each in schema]
        same = all(new is old for new, old in zip(found, schema, strict=True))
        return schema if same else type(schema)(found)
    if not isinstance(schema, dict):
        return schema
    transparent = TRANSPARENT in (schema.get("metadata") or {})
    if "serialization" in schema and not transparent:
        return schema
    kind = schema.get("type")
    if kind == "bytes" and kind not in natives:
        return _text_of_bytes(schema)
    if kind in natives or kind == "any":
        write = _any if kind == "any" else _kept
        return {**schema, "serialization": _function(write)}
    for name in _ITEMS.get(str(kind), ()):
        schema = schema if name in schema else {**schema, name: core_schema.any_schema()}
    changed = {
        name: new
        for name, old in schema.items()
        if name not in NOT_SCHEMAS and (new := _native(old, natives)) is not old
    }
    if transparent:
        # A class of attrs, of which only JSON is taken apart by itself.
        either = [schema["python_schema"], changed.get("json_schema", schema["json_schema"])]
        changed["python_schema"] = core_schema.union_schema(either, mode="left_to_right")
    return {**schema, **changed} if changed else schema


def _text_of_bytes(schema: Any) -> Any:
    """Bytes as in JSON, for a format that is JSON inside."""
    return core_schema.no_info_before_validator_function(
        decoded,
        {**schema, "strict": False},
        serialization=core_schema.plain_serializer_function_ser_schema(encoded, when_used="json"),
    )


def _function(write: Any) -> Any:
    return core_schema.plain_serializer_function_ser_schema(write, info_arg=True, when_used="json")


def _kept(value: Any, info: Any) -> Any:
    """A value that stays as it is. One of another type is left to pydantic."""
    kept = info.context
    if not isinstance(kept, _Kept) or (isinstance(value, datetime) and value.tzinfo is None):
        return value
    return kept.keep(value)


def _any(value: Any, info: Any) -> Any:
    """A value without an annotation: what is native in it stays as it is."""
    kept = info.context
    return _plain(value, kept) if isinstance(kept, _Kept) else value


def _plain(value: Any, kept: _Kept) -> Any:
    if isinstance(value, bytes | bytearray):
        return kept.keep(bytes(value))
    if isinstance(value, float) and not math.isfinite(value):
        return kept.keep(value)  # JSON has none of them
    if isinstance(value, datetime) and "datetime" in kept.natives and value.tzinfo is not None:
        return kept.keep(value)
    if type(value) is dict:
        return {_plain(key, kept): _plain(each, kept) for key, each in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return [_plain(each, kept) for each in value]
    return value
