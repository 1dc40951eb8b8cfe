"""Bytes in JSON: as base64url, wherever a schema of pydantic has them.

By itself pydantic writes them as UTF-8, which most bytes are not. A class says otherwise by
``ser_json_bytes`` and ``val_json_bytes``, or by a serializer of its own, and is left as it is.
Changes when bytes are written otherwise, or pydantic describes types otherwise.
"""

import binascii
from base64 import urlsafe_b64encode
from typing import Any, Final

from pydantic import GetJsonSchemaHandler, TypeAdapter
from pydantic_core import (
    PydanticSerializationUnexpectedValue,
    SchemaSerializer,
    SchemaValidator,
    core_schema,
)

ENCODING: Final = "base64url"
"""RFC 4648, section 5, with padding."""

TRANSPARENT: Final = "amqpjobs_transparent"
"""In the metadata of a schema whose own serializer passes on what its ``return_schema`` writes."""

NOT_SCHEMAS: Final = frozenset({"config", "default", "expected", "function", "members", "metadata"})
"""What of a schema has no schemas in it."""

_STANDARD = str.maketrans("-_", "+/")


def adapter_of(annotation: Any) -> TypeAdapter[Any]:
    """A pydantic adapter whose bytes are base64url in JSON.

    Raises:
        PydanticUserError: pydantic knows no such type.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    found: Any = adapter.core_schema
    schema = _encoded(found, theirs=False)
    if schema is not found:
        # A model that is part of it would be read and written by the model's own validator and
        # serializer, which pydantic has made before, and the change would not be seen.
        adapter.core_schema = schema
        adapter.validator = SchemaValidator(schema, _use_prebuilt=False)
        adapter.serializer = SchemaSerializer(schema, _use_prebuilt=False)
    return adapter


def _encoded(schema: Any, *, theirs: bool) -> Any:
    """The schema with its bytes encoded; the same object if there are none.

    Args:
        theirs: whether the class that it is of says how its bytes are written.
    """
    if isinstance(schema, list | tuple):
        found = [_encoded(each, theirs=theirs) for each in schema]
        same = all(new is old for new, old in zip(found, schema, strict=True))
        return schema if same else type(schema)(found)
    if not isinstance(schema, dict):
        return schema
    transparent = TRANSPARENT in (schema.get("metadata") or {})
    if "serialization" in schema and not transparent:
        return schema
    if schema.get("type") in ("model", "dataclass", "typed-dict"):
        theirs = _says_itself(schema.get("config") or {})
    if schema.get("type") == "bytes":
        return schema if theirs else _as_base64url(schema)
    changed = {
        name: new
        for name, old in schema.items()
        if name not in NOT_SCHEMAS and (new := _encoded(old, theirs=theirs)) is not old
    }
    return {**schema, **changed} if changed else schema


def _says_itself(config: dict[str, Any]) -> bool:
    """Whether it reads what it writes; else that would not travel."""
    written, read = config.get("ser_json_bytes"), config.get("val_json_bytes")
    return written is not None and written == read


def _as_base64url(schema: Any) -> Any:
    return core_schema.json_or_python_schema(
        json_schema=core_schema.no_info_before_validator_function(
            decoded, {**schema, "strict": False}
        ),
        python_schema=schema,
        serialization=core_schema.plain_serializer_function_ser_schema(encoded, when_used="json"),
        metadata={"pydantic_js_functions": [_described]},
    )


def _described(schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
    """Its JSON Schema. The limits of pydantic's are of the bytes, and not of the text."""
    whole = handler(schema)
    kept = {k: v for k, v in whole.items() if k not in ("format", "minLength", "maxLength")}
    return {**kept, "type": "string", "contentEncoding": ENCODING}


def encoded(value: object) -> str:
    """Bytes as text.

    Raises:
        PydanticSerializationUnexpectedValue: they are none; another member of a union may do.
    """
    if not isinstance(value, bytes | bytearray):
        raise PydanticSerializationUnexpectedValue(f"bytes were expected, not {type(value)}")
    return urlsafe_b64encode(value).decode()


def decoded(value: object) -> object:
    """The bytes of a text; what is no text is left to pydantic to refuse.

    Text that is no base64 is taken as the UTF-8 that releases before this one wrote. It comes as a
    bytearray, which is no exact match to pydantic: of `bytes | str` a text is a str.
    """
    if not isinstance(value, str):
        return value
    try:
        return bytearray(binascii.a2b_base64(value.translate(_STANDARD), strict_mode=True))
    except ValueError:
        return bytearray(value.encode())
