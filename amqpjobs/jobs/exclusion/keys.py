"""Makes keys of the arguments of a job: equal values give the same text, in every process.

Changes when a key may be made of something else.
"""

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.exclusion.unique import GivenKey
from amqpjobs.jobs.hints import did_you_mean

PLAIN = frozenset({str, int, bool, type(None)})
"""Types whose JSON does not depend on an annotation."""


class Parameters(Protocol):
    """The parameters of a job that travel: a `Payload`."""

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""
        ...

    def json_of(self, name: str, value: Any) -> bytes:
        """One of them as JSON."""
        ...


class Key:
    """What makes the key of a call.

    Args:
        parameters: of the job.
        given: by the user.
        what: was given it, for errors: ``limit``.
        fail: makes an error that names the job.

    Raises:
        ConfigurationError: a parameter that the job does not have, or a function that cannot be
            called with its parameters.
    """

    def __init__(
        self,
        parameters: Parameters,
        given: GivenKey,
        what: str,
        fail: Callable[[str], ConfigurationError],
    ) -> None:
        self._parameters = parameters
        self._function = given if callable(given) else None
        self._what, self._fail = what, fail
        if callable(given):
            self._names = self._names_of(given)
        elif given is None:
            self._names = parameters.names
        else:
            self._names = (given,) if isinstance(given, str) else tuple(given)
        for name in self._names:
            self._check(name)

    def __repr__(self) -> str:
        return f"<Key of {', '.join(self._names)}>"

    def _check(self, name: str) -> None:
        there = self._parameters.names
        if name not in there:
            raise self._fail(
                f"the key of {self._what}= names {name!r}, which is no parameter that a caller "
                f"gives; there are: {', '.join(there) or 'none'}{did_you_mean(name, there)}"
            )

    def _names_of(self, function: Callable[..., Any]) -> tuple[str, ...]:
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            raise self._fail(
                f"the key of {self._what}= is {function!r}, whose parameters Python cannot tell: "
                "write a lambda that names the parameters that it takes"
            ) from None
        for parameter in parameters:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise self._fail(
                    f"the key of {self._what}= takes *{parameter.name}: name the parameters of the "
                    "job that it needs"
                )
        self._by_name = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}
        return tuple(parameter.name for parameter in parameters)

    def of(self, arguments: Mapping[str, Any]) -> str:
        """The key of a call, as JSON.

        Args:
            arguments: by name, those that were left out with their defaults.

        Raises:
            Exception: what the user's function raises.
        """
        if self._function is not None:
            return self._of_function(self._function, arguments)
        if len(self._names) == 1:
            return self._json(self._names[0], arguments)
        values = [f"{json.dumps(n)}:{self._json(n, arguments)}" for n in sorted(self._names)]
        return "{" + ",".join(values) + "}"

    def _json(self, name: str, arguments: Mapping[str, Any]) -> str:
        value = arguments[name]
        if type(value) in PLAIN:
            return json.dumps(value, ensure_ascii=False)
        return _canonical(self._parameters.json_of(name, value))

    def _of_function(self, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
        args = [arguments[name] for name in self._names if name not in self._by_name]
        value = function(*args, **{name: arguments[name] for name in self._by_name})
        if type(value) in PLAIN:
            return json.dumps(value, ensure_ascii=False)
        from pydantic_core import PydanticSerializationError, to_json

        try:
            return _canonical(to_json(value))
        except PydanticSerializationError:
            raise self._fail(
                f"the key of {self._what}= returned {type(value).__name__}, which cannot become "
                "JSON: return a text or a number"
            ) from None


def _canonical(body: bytes) -> str:
    return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def several(given: Any, kind: type[Any]) -> list[Any]:
    """What may be one value of a kind, or a list of them, as a list."""
    if isinstance(given, kind):
        return [given]
    return list(given) if isinstance(given, list | tuple) else [given]
