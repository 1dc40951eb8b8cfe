"""The comparison that a schema of pydantic needs, worked out once for each annotation.

Plain types need none, a model only the look at its class; what is not understood is compared as a
whole. Changes when pydantic has another kind of schema.
"""

from collections.abc import Callable
from typing import Any

from amqpjobs.differences import Difference, differs, equal, loosely
from amqpjobs.shapes import fields_of, inner_of, unwrapped

Check = Callable[[Any, Any], "Difference | None"]
"""Compares what was validated with what came back of it."""

PLAIN = frozenset({
    "none", "bool", "int", "float", "str", "bytes", "date", "timedelta", "uuid", "decimal",
    "enum", "literal", "generator",
})  # fmt: skip
"""Kinds of schemas whose values come back as they were, or are refused by pydantic itself. A
generator can be looked at once only, and is sent then."""

PLAIN_KEYS = frozenset({"str", "int", "uuid", "date", "enum", "literal"})


def check_of(schema: Any, *, nulls: bool) -> Check | None:
    """What compares two values of a schema; None where they cannot differ.

    Args:
        schema: pydantic's core schema.
        nulls: whether the JSON has a null in it, which NaN may have become.
    """
    return _Plans(schema, nulls=nulls).check


class _Plans:
    """The comparison that a schema needs; None where nothing can differ."""

    def __init__(self, schema: Any, *, nulls: bool) -> None:
        self._nulls = nulls
        self._schemas: dict[str, Any] = {}
        self._made: dict[str, Check | None] = {}
        # The class that a check looks at, and whether it looks at plain values as well.
        self._quick: dict[Check, tuple[type, bool]] = {}
        self.check = self._of(schema)

    def _of(self, schema: Any) -> Check | None:
        kind = schema.get("type")
        make = getattr(self, "_" + str(kind).replace("-", "_"), None)
        if _is_sequence(schema):
            return self._sequence(schema)
        if make is None or "serialization" in schema or _is_special(schema.get("config")):
            plain = kind in PLAIN and "serialization" not in schema
            return None if plain else differs
        made: Check | None = make(schema)
        return made

    def _definitions(self, schema: Any) -> Check | None:
        self._schemas.update((each["ref"], each) for each in schema["definitions"])
        return self._of(schema["schema"])

    def _definition_ref(self, schema: Any) -> Check | None:
        ref = schema["schema_ref"]
        if ref not in self._made:
            made = self._made

            def later(a: Any, b: Any) -> Difference | None:
                check = made[ref]
                return check(a, b) if check is not None and check is not later else None

            made[ref] = later  # what refers to itself finds this
            made[ref] = self._of(self._schemas[ref]) if ref in self._schemas else differs
        return self._made[ref]

    def _default(self, schema: Any) -> Check | None:
        return self._of(schema["schema"])

    def _any(self, _: Any) -> Check:
        return _anything

    def _json_or_python(self, schema: Any) -> Check:
        return _anything if schema["json_schema"].get("type") == "any" else differs

    def _datetime(self, _: Any) -> Check:
        return _anything

    _time = _datetime

    def _nullable(self, schema: Any) -> Check | None:
        inner = self._of(schema["schema"])
        if inner is None and not (self._nulls and _is_float(schema["schema"])):
            return None
        if inner is None:
            return _number
        compare = inner

        def check(a: Any, b: Any) -> Difference | None:
            return differs(a, b) if a is None or b is None else compare(a, b)

        return check

    def _list(self, schema: Any) -> Check | None:
        inner = self._of(schema["items_schema"]) if "items_schema" in schema else differs
        if inner is None:
            return None
        return _each(inner, *self._quick.get(inner, (None, False)))

    def _sequence(self, schema: Any) -> Check | None:
        # `Sequence[int]` promises no list: a tuple may arrive as one.
        return None if self._list(schema["json_schema"]) is None else loosely

    def _set(self, schema: Any) -> Check | None:
        return None if self._of(schema.get("items_schema", {})) is None else differs

    _frozenset = _set

    def _tuple(self, schema: Any) -> Check | None:
        return None if all(self._of(s) is None for s in schema["items_schema"]) else differs

    def _dict(self, schema: Any) -> Check | None:
        keys, values = schema.get("keys_schema", {}), schema.get("values_schema", {})
        if keys.get("type") not in PLAIN_KEYS or self._of(keys) is not None:
            return differs
        inner = self._of(values)
        if inner is None:
            return None
        compare = inner

        def check(a: Any, b: Any) -> Difference | None:
            if len(a) != len(b):
                return differs(a, b)
            for key, value in a.items():
                if key not in b:
                    return differs(a, b)
                if (found := compare(value, b[key])) is not None:
                    return found.at("[key]")
            return None

        return check

    def _union(self, schema: Any) -> Check:
        members: dict[type, Check] = {}
        for choice in inner_of(schema):
            if _exact(choice) is not None and (compare := self._of(choice)) is not None:
                members[choice["cls"]] = compare

        def check(a: Any, b: Any) -> Difference | None:
            member = members.get(type(a))
            if member is not None and type(a) is type(b):
                return member(a, b)
            return None if type(a) in _ATOMS and type(a) is type(b) and a == b else differs(a, b)

        return check

    _tagged_union = _union

    def _typed_dict(self, schema: Any) -> Check | None:
        if schema.get("extra_behavior") == "allow" or _allows(schema):
            return differs
        checks = self._fields(schema)
        if not checks:
            return None

        def check(a: Any, b: Any) -> Difference | None:
            for name, compare in checks:
                if name in a and (found := compare(a[name], b.get(name))) is not None:
                    return found.at(name)
            return None

        return check

    def _model(self, schema: Any) -> Check:
        fields, changing = unwrapped(schema)
        cls = schema["cls"]
        if fields is None or _allows(schema) or fields.get("extra_behavior") == "allow":
            return differs
        checks = self._fields(fields)
        if changing:  # validators of the model may say another thing each time
            return _compared(cls, flat=not checks)
        if not checks:
            return self._instance(cls)

        def check(a: Any, b: Any) -> Difference | None:
            if type(a) is not cls:
                return differs(a, b)
            mine, other = a.__dict__, b.__dict__
            for name, compare in checks:
                if (found := compare(mine.get(name), other.get(name))) is not None:
                    return found.at(name)
            return None

        if all(compare is _number for _, compare in checks):
            self._quick[check] = cls, True
        return check

    def _instance(self, cls: type) -> Check:
        """For a class whose fields are plain: only an object of a subclass has more."""

        def check(a: Any, b: Any) -> Difference | None:
            return None if type(a) is cls else differs(a, b)

        self._quick[check] = cls, False
        return check

    def _dataclass(self, schema: Any) -> Check:
        fields, changing = unwrapped(schema)
        cls = schema["cls"]
        if fields is None or changing or _allows(schema):
            return differs
        checks = self._fields(fields)
        if not checks:
            return self._instance(cls)

        def check(a: Any, b: Any) -> Difference | None:
            if type(a) is not cls:
                return differs(a, b)
            for name, compare in checks:
                found = compare(getattr(a, name, None), getattr(b, name, None))
                if found is not None:
                    return found.at(name)
            return None

        return check

    def _fields(self, schema: Any) -> list[tuple[str, Check]]:
        """Those of the fields that need a comparison."""
        found: list[tuple[str, Check]] = []
        for name, each in fields_of(schema).items():
            if (
                each.get("serialization_exclude")
                or each.get("init_only")
                or each.get("init") is False
            ):
                continue  # its author says that it does not travel
            check = self._of(each["schema"])
            if each.get("serialization_alias") != each.get("validation_alias"):
                check = check or differs  # written by one name, and looked for by another
            if check is not None:
                found.append((name, check))
        return found


_ATOMS = frozenset({str, int, float, bool, type(None)})


def _number(a: Any, b: Any) -> Difference | None:
    """For a number that may be None: NaN has become it."""
    return differs(a, b) if a is None or b is None else None


def _anything(a: Any, b: Any) -> Difference | None:
    return None if equal(a, b) else differs(a, b)


def _compared(cls: type, *, flat: bool) -> Check:
    def check(a: Any, b: Any) -> Difference | None:
        if flat and type(a) is cls and equal(a.__dict__, b.__dict__):
            return None
        return differs(a, b)

    return check


def _each(inner: Check, cls: type | None, by_value: bool) -> Check:
    """For a list.

    Args:
        inner: of an item.
        cls: of the items, if they can be looked at all at once.
        by_value: whether their values have to be looked at, too: these are plain.
    """

    def check(a: Any, b: Any) -> Difference | None:
        if cls is not None and {*map(type, a)} <= {cls}:
            if not by_value:
                return None
            if [x.__dict__ for x in a] == [x.__dict__ for x in b]:
                return None
        if inner is differs or inner is _anything:
            return _anything(a, b)
        if len(a) != len(b):
            return differs(a, b)
        for index, (mine, other) in enumerate(zip(a, b, strict=True)):
            if (found := inner(mine, other)) is not None:
                return found.at(str(index))
        return None

    return check


def _exact(schema: Any) -> type | None:
    """The class of a model or a dataclass."""
    if schema is not None and schema.get("type") in ("model", "dataclass"):
        cls: type = schema["cls"]
        return cls
    return None


def _is_float(schema: Any) -> bool:
    while schema.get("type") in ("default", "nullable"):
        schema = schema["schema"]
    return schema.get("type") in ("float", "definition-ref")


def _is_sequence(schema: Any) -> bool:
    """Whether it is that of ``Sequence[...]``, which takes a tuple and a list."""
    if schema.get("type") != "json-or-python" or schema["json_schema"].get("type") != "list":
        return False
    python = schema["python_schema"]
    return bool(python.get("steps", (python,))[0].get("type") == "is-instance")


def _is_special(config: Any) -> bool:
    """Whether pydantic is told to write in another way, or to read by other names."""
    return bool(config) and any(
        name.startswith(("ser_json", "val_json")) or name in ("validate_by_alias",)
        for name in config
    )


def _allows(schema: Any) -> bool:
    return (schema.get("config") or {}).get("extra_fields_behavior") == "allow"
