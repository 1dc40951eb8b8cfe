"""Arguments to JSON and back, by the handler's own annotations.

One parameter: the body is its value. Several: an object keyed by parameter name. None: ``{}``.
A method's object is a parameter called ``self``. Changes when the body's format changes.
"""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, get_type_hints

from pydantic import ConfigDict, GetCoreSchemaHandler, PydanticUserError, TypeAdapter
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import CoreSchema, PydanticSerializationError, core_schema, to_json
from typing_extensions import TypedDict

from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.roundtrip.encoded_bytes import TRANSPARENT, adapter_of
from amqpjobs.jobs.roundtrip.findings import findings
from amqpjobs.jobs.roundtrip.roundtrip import NotTheSame, RoundTrip

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments, ready to be spread into a call."""

MASK = b'"**********"'
"""What pydantic makes of the value of a SecretStr, a SecretBytes or a Secret."""

SHOWN = 8
"""Findings that the text of an error tells of one body."""

MOST = 20
"""Findings that its attribute has."""

EMPTY = inspect.Parameter.empty
KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY


class Payload:
    """The parameters of one job that travel in the message: what turns them into bytes and back.

    Args:
        job: the job's name, for messages to people.
        parameters: the parameters to send, in order; ``self`` first for a method.
        hints: the annotation of each.

    Raises:
        ConfigurationError: an annotation or a default that cannot become JSON.
    """

    def __init__(
        self, job: str, parameters: list[inspect.Parameter], hints: Mapping[str, Any]
    ) -> None:
        self.job = job
        self._signature = inspect.Signature(parameters)
        self._hints = hints
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._without: dict[str, Payload] = {}
        self._single = parameters[0] if len(parameters) == 1 else None
        self._leading = {
            p.name: p.default for p in parameters if p.name == "self" or p.kind is p.POSITIONAL_ONLY
        }
        self._adapter: TypeAdapter[Any] | None = self._build(parameters, hints)
        if self._adapter is not None:
            # Bound once: one attribute look-up less for every message.
            self._validate_json = self._adapter.validator.validate_json
            self._write = RoundTrip(self._adapter).write
        self._check_defaults(parameters, hints)

    def _build(
        self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]
    ) -> TypeAdapter[Any] | None:
        if not parameters:
            return None
        try:
            return adapter_of(self._annotation(parameters, hints))
        except PydanticUserError as error:
            raise ConfigurationError(
                f"job {self.job!r}: its parameters cannot travel as JSON: "
                f"{str(error).splitlines()[0]} Use types that pydantic knows, such as BaseModel, "
                "dataclass, str, int, list"
            ) from error

    def _annotation(self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]) -> Any:
        """What the body is validated by."""
        if self._single is not None:
            return jsonable(hints[self._single.name])
        fields = {
            p.name: jsonable(hints[p.name])
            if p.default is EMPTY
            else NotRequired[jsonable(hints[p.name])]
            for p in parameters
        }
        # The functional form, since a parameter may have any name, such as `self`.
        arguments: Any = TypedDict("arguments", fields)  # type: ignore[misc]
        # An argument that the handler does not know is a mistake of the caller, not a detail.
        arguments.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]
        return arguments

    def _check_defaults(
        self, parameters: list[inspect.Parameter], hints: Mapping[str, Any]
    ) -> None:
        for parameter in parameters:
            if parameter.default is EMPTY:
                continue
            adapter = adapter_of(jsonable(hints[parameter.name]))
            try:
                adapter.dump_json(adapter.validate_python(parameter.default), by_alias=True)
            except (PydanticValidationError, PydanticSerializationError) as error:
                raise ConfigurationError(
                    f"job {self.job!r}: the default of {parameter.name!r} does not fit its "
                    f"annotation or cannot become JSON: {first_line(error)}"
                ) from error

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters, in order."""
        return tuple(self._signature.parameters)

    def hint_of(self, name: str) -> Any:
        """The annotation of one parameter."""
        return self._hints[name]

    def kind_of(self, name: str) -> str | None:
        """The JSON type of one parameter, such as ``object``; None where there are several, or
        pydantic knows none."""
        hint = self._hints[name]
        try:
            kind = adapter_of(jsonable(hint)).json_schema().get("type")
        except PydanticUserError:
            return None
        return kind if isinstance(kind, str) else None

    def dump(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Validate arguments and encode them.

        Raises:
            InvalidArguments: they do not fit; the message names the parameter, not the value.
        """
        value = self._value(args, kwargs)
        if self._adapter is None:
            return b"{}"
        try:
            return self._write(value)
        except NotTheSame as error:
            raise InvalidArguments(self._lost(error), job=self.job) from None
        except PydanticValidationError as error:
            # Not `from error`: pydantic's own text, in a traceback, shows the input.
            told = self._describe(error, findings(error, self._adapter))
            raise InvalidArguments(f"{self.job}: {told}", job=self.job) from None
        except (PydanticSerializationError, RecursionError) as error:
            raise InvalidArguments(
                f"{self.job}: an argument cannot become JSON: {first_line(error)}", job=self.job
            ) from error

    def dump_without(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Dump all arguments except one that is not known yet, as an object by parameter names.

        Raises:
            InvalidArguments: as `dump`.
        """
        others = self._without.get(name)
        if others is None:
            left = [p for p in self._signature.parameters.values() if p.name != name]
            others = self._without[name] = Payload(self.job, left, self._hints)
        body = others.dump(args, kwargs)
        return body if others._single is None else member(others._single.name, body)

    def _lost(self, error: NotTheSame) -> str:
        if MASK in error.body:
            return (
                f"{self.job}: pydantic writes secrets as asterisks; send a str, or better where "
                "the secret is kept"
            )
        found = error.difference
        return f"{self.job}: {self._at('.'.join(found.place))}: {found.words}"

    def _at(self, place: str) -> str:
        """A place in the arguments, with the name of the only one."""
        if self._single is not None:
            return f"{self._single.name}.{place}" if place else self._single.name
        return place or "arguments"

    def _value(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the adapter takes: the only argument, or all by name."""
        single = self._single
        if single is not None and len(args) == 1 and not kwargs and single.kind is not KEYWORD_ONLY:
            return args[0]  # binding a signature costs as much as validating
        try:
            given = self._signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidArguments(f"{self.job}: {error}", job=self.job) from None
        return given if single is None else given.get(single.name, single.default)

    def load(self, body: bytes) -> Arguments:
        """Decode a body and validate it, in one pass over the bytes.

        Raises:
            DecodeError: not JSON, or it does not fit; never shows the values.
        """
        if self._adapter is None:
            if body.strip() in (b"", b"{}", b"null"):
                return (), {}
            raise DecodeError(f"{self.job} takes no arguments; the body must be {{}} or empty")
        try:
            value = self._validate_json(body)
        except PydanticValidationError as error:
            found = findings(error, self._adapter, MOST)
            raise DecodeError(self._describe(error, found), found) from None
        return self._spread(value)

    def _spread(self, value: Any) -> Arguments:
        """What was validated, as arguments."""
        if self._single is not None:
            if self._single.kind is KEYWORD_ONLY:
                return (), {self._single.name: value}
            return (value,), {}
        # With its default, one that was left out does not let the next one move up.
        return tuple(value.pop(n, default) for n, default in self._leading.items()), value

    def dump_json(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """Validate arguments and encode them as JSON, whatever the format of the messages is.

        Raises:
            InvalidArguments: they do not fit, or cannot become JSON.
        """
        return self.dump(args, kwargs)

    def load_json(self, body: bytes) -> Arguments:
        """Validate arguments that are given as JSON, whatever the format of the messages is.

        Raises:
            DecodeError: not JSON, or it does not fit; never shows the values.
        """
        return self.load(body)

    def by_name(self, arguments: Arguments) -> dict[str, Any]:
        """Loaded arguments by the names of their parameters; those that were left out are not
        among them, unless they are positional."""
        args, kwargs = arguments
        return {**dict(zip(self.positional, args, strict=True)), **kwargs}

    def complete(self, arguments: Arguments) -> dict[str, Any]:
        """The same, and those that were left out with their defaults."""
        parameters = self._signature.parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not EMPTY}
        return defaults | self.by_name(arguments)

    def json_of(self, name: str, value: Any) -> bytes:
        """The value of one parameter as JSON."""
        adapter = self._adapters.get(name)
        if adapter is None:
            adapter = self._adapters[name] = adapter_of(jsonable(self._hints[name]))
        return adapter.dump_json(value, by_alias=True)

    def spread(self, by_name: Mapping[str, Any]) -> Arguments:
        """The other way round."""
        left, positional = dict(by_name), self.positional
        parameters = self._signature.parameters
        args = tuple(left.pop(name, parameters[name].default) for name in positional)
        return args, left

    @property
    def required(self) -> tuple[str, ...]:
        """The parameters without a default."""
        return tuple(p.name for p in self._signature.parameters.values() if p.default is EMPTY)

    def _describe(self, error: PydanticValidationError, found: list[tuple[str, str]]) -> str:
        """Pydantic's findings without the input, which may hold secrets."""
        problems = [f"{self._at(place)}: {problem}" for place, problem in found[:SHOWN]]
        if (more := error.error_count() - len(problems)) > 0:
            problems.append(f"and {more} more")
        return "; ".join(problems)

    @property
    def positional(self) -> tuple[str, ...]:
        """The names of the parameters that `load` returns by their position."""
        single = self._single
        if single is None:
            return tuple(self._leading)
        return () if single.kind is KEYWORD_ONLY else (single.name,)

    @property
    def adapter(self) -> TypeAdapter[Any] | None:
        """What validates the body; None for a job without arguments."""
        return self._adapter

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of the body."""
        if self._adapter is None:
            return {"type": "object", "additionalProperties": False}
        return self._adapter.json_schema()


def jsonable(annotation: Any) -> Any:
    """The annotation, with what pydantic lacks for classes made by attrs."""
    if isinstance(annotation, type) and hasattr(annotation, "__attrs_attrs__"):
        return Annotated[annotation, _AttrsSchema(annotation)]
    return annotation


def member(name: str, value: bytes, others: bytes = b"{}") -> bytes:
    """Put a member in front of a JSON object. Its value is JSON, too."""
    key = to_json(name)
    return b"{" + key + b":" + value + (b"}" if others == b"{}" else b"," + others[1:])


class _AttrsSchema:
    """Teaches pydantic an attrs class: an object of its ``__init__`` fields."""

    def __init__(self, owner: Any) -> None:
        self._owner = owner
        # attrs calls a field `_x` by `x` in `__init__`: `alias` is that name.
        self._fields = {a.alias: a for a in owner.__attrs_attrs__ if a.init}

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        hints = get_type_hints(self._owner, include_extras=True)
        fields = core_schema.typed_dict_schema(
            {
                alias: core_schema.typed_dict_field(
                    handler.generate_schema(hints[a.name]), required=_is_required(a)
                )
                for alias, a in self._fields.items()
            },
            extra_behavior="forbid",
        )
        build = core_schema.no_info_after_validator_function(self._build, fields)
        return core_schema.json_or_python_schema(
            json_schema=build,
            python_schema=core_schema.is_instance_schema(self._owner),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._fields_of, return_schema=fields
            ),
            metadata={TRANSPARENT: True},
        )

    def _build(self, values: dict[str, Any]) -> Any:
        return self._owner(**values)

    def _fields_of(self, value: Any) -> dict[str, Any]:
        return {alias: getattr(value, a.name) for alias, a in self._fields.items()}


def _is_required(attribute: Any) -> bool:
    # attrs' NOTHING is the only default that is not one; attrs itself need not be importable here.
    return type(attribute.default).__name__ == "_Nothing" or repr(attribute.default) == "NOTHING"


def first_line(error: Exception) -> str:
    """An error in a line, without what pydantic shows of the input."""
    if isinstance(error, PydanticValidationError):
        return "; ".join(p["msg"] for p in error.errors(include_input=False, include_url=False)[:3])
    return str(error).splitlines()[0] if str(error) else type(error).__name__
