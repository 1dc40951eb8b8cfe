"""Pydantic's core schemas, read: what a schema consists of.

Changes when pydantic describes types otherwise (https://docs.pydantic.dev/latest/api/pydantic_core_schema).
"""

from collections.abc import Mapping
from typing import Any

VALIDATORS = frozenset({"function-before", "function-after", "function-wrap"})
FIELDS = frozenset({"model-fields", "dataclass-args", "typed-dict"})


def inner_of(schema: Any) -> list[Any]:
    """The choices of a union."""
    choices = schema["choices"]
    found = choices.values() if isinstance(choices, Mapping) else choices
    return [each[0] if isinstance(each, tuple) else each for each in found]


def unwrapped(schema: Any) -> tuple[Any, bool]:
    """The fields of a model or a dataclass, and whether functions of its author run when one is
    made; None for the fields where it has none of its own."""
    changing = bool(schema.get("custom_init")) or schema.get("post_init") not in (
        None, False, "init_private_attributes",
    )  # fmt: skip
    found = schema.get("schema")
    while found and found.get("type") in VALIDATORS:
        changing, found = True, found.get("schema")
    if schema.get("root_model") or not found or found.get("type") not in FIELDS:
        return None, changing
    return found, changing


def fields_of(schema: Any) -> Mapping[str, Any]:
    """The fields by their names: of a model, a dataclass, a `TypedDict`."""
    fields = schema["fields"]
    return fields if isinstance(fields, Mapping) else {each["name"]: each for each in fields}
