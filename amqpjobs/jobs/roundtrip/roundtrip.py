"""Values to JSON by a pydantic adapter, refusing what would not come back equal.

What can get lost is known from the schema, once: a schema of plain types needs no comparison at
all, a model only the look at its class. Changes when pydantic writes something else than it reads.
"""

from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import SchemaValidator

from amqpjobs.jobs.roundtrip.comparison import Check, check_of
from amqpjobs.jobs.roundtrip.differences import Difference

NULL = b"null"


class NotTheSame(Exception):
    """A value that would arrive as another one.

    Attributes:
        difference: where, and how.
        body: the JSON that says something else.
    """

    def __init__(self, difference: Difference, body: bytes) -> None:
        super().__init__(difference.words)
        self.difference = difference
        self.body = body


class RoundTrip:
    """What writes values of one annotation.

    Args:
        adapter: of the annotation.
        exact: whether what does not come back equal is refused.
    """

    def __init__(self, adapter: TypeAdapter[Any], *, exact: bool = True) -> None:
        # Without the adapter's own methods around them, which cost half a microsecond each.
        self._read: Callable[[bytes], Any] = adapter.validator.validate_json
        self._write = adapter.serializer.to_json
        self._validate: Callable[[Any], Any] = adapter.validator.validate_python
        self._check: Check | None = None
        self._check_nulls: Check | None = None
        if exact:
            schema = adapter.core_schema
            self._check = check_of(schema, nulls=False)
            # NaN is written as null. So only what has one pays for looking at optional numbers.
            self._check_nulls = check_of(schema, nulls=True)
            if (own := closed(schema)) is not schema:
                self._validate = SchemaValidator(own).validate_python

    def write(self, value: Any) -> bytes:
        """Validate a value and encode it.

        Raises:
            NotTheSame: what arrives would be another value.
            ValidationError, PydanticSerializationError, RecursionError: pydantic's own.
        """
        checked = self._validate(value)
        body = self._write(checked, by_alias=True, round_trip=True, warnings=False)
        # As it will be received: objects may have changed since pydantic looked at them, and what
        # a worker refuses must not be sent.
        received = self._read(body)
        if self._check_nulls is not None:
            check = self._check_nulls if NULL in body else self._check
            if check is not None and (found := check(checked, received)) is not None:
                raise NotTheSame(found, body)
        return body


def closed(schema: Any) -> Any:
    """The schema with every `TypedDict` closed that does not say what becomes of more keys: they
    are fields of a subclass, and pydantic leaves them out. The same object if there is none."""
    if isinstance(schema, list | tuple):
        found = [closed(each) for each in schema]
        same = all(new is old for new, old in zip(found, schema, strict=True))
        return schema if same else type(schema)(found)
    if not isinstance(schema, dict) or schema.get("type") in ("model", "dataclass"):
        return schema
    changed = {
        name: new
        for name, old in schema.items()
        if name not in ("serialization", "metadata", "config", "default", "function", "expected")
        and (new := closed(old)) is not old
    }
    if schema.get("type") == "typed-dict" and schema.get("extra_behavior") in (None, "ignore"):
        config = schema.get("config") or {}
        if "extra_fields_behavior" not in config and "extras_schema" not in schema:
            changed["extra_behavior"] = "forbid"
    return {**schema, **changed} if changed else schema
