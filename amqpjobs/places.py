"""What pydantic found in a payload, in words that may be shown: where, and why, never what.

The keys of a dict are data, often personal, and are written as ``[key]``. The names of parameters,
of fields and of the members of a union are the program's own. Changes when a finding is told in
another way.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from amqpjobs.shapes import fields_of, inner_of

KEY = "[key]"
"""What stands for the key of a dict. Pydantic itself puts it behind a key that is wrong."""

LONGEST_NAME = 40
"""Characters of the name of an unknown field that is shown."""


def findings(
    error: ValidationError, adapter: TypeAdapter[Any] | None, most: int = 8
) -> list[tuple[str, str]]:
    """Where, as names with dots between, and what is wrong there.

    Args:
        error: what validating with `adapter` has raised.
        adapter: None if it is not known: then no name is shown.
        most: findings.
    """
    found = error.errors(include_input=False, include_url=False, include_context=True)
    schema: Any = None if adapter is None else adapter.core_schema
    return [(place(schema, each["loc"], each["type"]), _problem(each)) for each in found[:most]]


def place(schema: Any, location: Sequence[int | str], kind: str = "") -> str:
    """A location without the keys in it."""
    rest = tuple(location)
    unknown = ""
    if kind == "extra_forbidden" and rest:
        # A field that is not there is mostly one that is spelled wrong, and its name helps. What
        # could not be the name of a field is data.
        name, rest = str(rest[-1]), rest[:-1]
        unknown = name if name.isidentifier() and len(name) <= LONGEST_NAME else KEY
    walk = _Walk({})
    parts, _ = walk.go(schema, rest) if schema is not None else _hidden(rest)
    return ".".join((*parts, unknown) if unknown else parts)


def _problem(finding: Any) -> str:
    if finding["type"] == "union_tag_invalid":
        # Pydantic's own words show the tag that came.
        expected = finding.get("ctx", {}).get("expected_tags", "")
        return f"The tag is none of the expected ones: {expected}"
    words: str = finding["msg"]
    return words


Parts = tuple[list[str], int]
"""Names, and how many of them are hidden."""


class _Walk:
    """Follows a location through a schema."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._schemas = schemas

    def go(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        if not rest:
            return [], 0
        kind = str(schema.get("type"))
        if kind == "definitions":
            self._schemas.update((each["ref"], each) for each in schema["definitions"])
        if kind == "definition-ref":
            schema = self._schemas.get(schema["schema_ref"], {})
            return self.go(schema, rest)
        step = _STEPS.get(kind)
        if step is not None:
            found: Parts = step(self, schema, rest)
            return found
        inner = [schema[name] for name in _INNER if isinstance(schema.get(name), dict)]
        inner += [each for each in schema.get("steps", ()) if isinstance(each, dict)]
        return self._best(inner, rest)

    def _best(self, schemas: list[Any], rest: tuple[int | str, ...]) -> Parts:
        """By the one of several schemas that knows most of it."""
        ways = [self.go(each, rest) for each in schemas]
        return min(ways, key=lambda way: way[1]) if ways else _hidden(rest)

    def fields(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        for name, each in fields_of(schema).items():
            if rest[0] in _names(name, each):
                return self._on(str(rest[0]), each["schema"], rest[1:])
            for path in _paths(each):
                if rest[: len(path)] == path:
                    return self._on(".".join(map(str, path)), each["schema"], rest[len(path) :])
        return self._key(schema.get("extras_schema"), rest)

    def named(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        """A named tuple, or arguments: by name or by place."""
        for number, each in enumerate(schema.get("fields") or schema.get("arguments_schema") or ()):
            if rest[0] in (number, each["name"]):
                return self._on(str(rest[0]), each["schema"], rest[1:])
        return _hidden(rest)

    def items(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        if not isinstance(rest[0], int):
            return _hidden(rest)
        given = schema.get("items_schema", {})
        choices = given if isinstance(given, list) else [given]
        parts, hidden = self._best(choices, rest[1:]) if rest[1:] else ([], 0)
        return [str(rest[0]), *parts], hidden

    def mapping(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        if rest[1:2] == (KEY,):
            parts, hidden = self._key(schema.get("keys_schema"), rest[1:])
            return [KEY, *parts], hidden  # the key itself is wrong, as pydantic puts it
        return self._key(schema.get("values_schema"), rest)

    def union(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        # The name of a member: its class, its tag, its type in words.
        parts, hidden = self._best(inner_of(schema), rest[1:]) if rest[1:] else ([], 0)
        return [str(rest[0]), *parts], hidden

    def _on(self, name: str, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        parts, hidden = self.go(schema, rest)
        return [name, *parts], hidden

    def _key(self, schema: Any, rest: tuple[int | str, ...]) -> Parts:
        parts, hidden = self.go(schema, rest[1:]) if schema else _hidden(rest[1:])
        return [KEY, *parts], hidden + 1


_INNER = ("schema", "json_schema", "python_schema", "lax_schema", "strict_schema")
_STEPS = {
    "model-fields": _Walk.fields, "dataclass-args": _Walk.fields, "typed-dict": _Walk.fields,
    "named-tuple": _Walk.named, "arguments": _Walk.named,
    "list": _Walk.items, "tuple": _Walk.items, "set": _Walk.items, "frozenset": _Walk.items,
    "deque": _Walk.items, "generator": _Walk.items,
    "dict": _Walk.mapping, "ordered-dict": _Walk.mapping, "counter": _Walk.mapping,
    "union": _Walk.union, "tagged-union": _Walk.union,
}  # fmt: skip


def _names(name: str, field: Any) -> tuple[Any, ...]:
    alias = field.get("validation_alias")
    return (name, alias) if isinstance(alias, str) else (name,)


def _paths(field: Any) -> list[tuple[Any, ...]]:
    """Those of an ``AliasPath`` or ``AliasChoices``."""
    alias = field.get("validation_alias")
    if not isinstance(alias, list):
        return []
    paths = alias if alias and isinstance(alias[0], list) else [alias]
    return [tuple(each) for each in paths]


def _hidden(rest: Sequence[int | str]) -> Parts:
    return [KEY] * len(rest), len(rest)
