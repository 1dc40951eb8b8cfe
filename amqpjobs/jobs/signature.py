"""What the function of a job says about itself: its parameters, what is injected, what it returns.

Changes when a handler may look differently.
"""

import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.annotations import hints_of, without_verdicts
from amqpjobs.jobs.batch import Batch, element_of, result_of, taking_one
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.handlers import awaitable
from amqpjobs.jobs.markers import is_dependency, is_injected, problem_with
from amqpjobs.jobs.message.bodies import Body, own
from amqpjobs.jobs.once import Sessions, transactional

if TYPE_CHECKING:
    from amqpjobs.jobs.message.arguments import Arguments, Payload
    from amqpjobs.jobs.roundtrip.roundtrip import RoundTrip

Kind: TypeAlias = Literal["async", "thread", "process"]


class Signature:
    """The signature of a job's function. A `Definition` is one, and sets what this needs.

    Attributes:
        name: of the job.
        function: the handler as it was written.
        is_method: whether it is one, and ``self`` travels.
        owner: the class whose method it is, once that is complete.
        kind: where it runs.
        batch: run many jobs in one call; None for one by one.
        once: makes the sessions of its transactions; None for no transactions.
        body: the format of its messages; None for JSON.
        registered_in: the name of its app; None where it is in none.
    """

    name: str
    function: Callable[..., Any]
    is_method: bool
    owner: type | None
    kind: Kind
    batch: Batch | None
    once: Sessions | None
    body: Body | None
    registered_in: str | None
    _signature: inspect.Signature

    def fail(self, problem: str) -> ConfigurationError:
        """An error that names the function and where it is."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}" if code else self.function.__module__
        return ConfigurationError(f"job {self.name!r} ({place}): {problem}")

    def _check_parameters(self) -> None:
        if self.is_method and not self._signature.parameters:
            raise self.fail("a method takes its object, `self`, as its first parameter")
        for i, parameter in enumerate(self._signature.parameters.values()):
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                raise self.fail(f"*{parameter.name} has no schema; name the parameters")
            if problem := problem_with(parameter, parameter.annotation):
                raise self.fail(problem)
            if parameter.annotation is parameter.empty and not (self.is_method and i == 0):
                if is_dependency(parameter.default):
                    continue
                raise self.fail(
                    f"parameter {parameter.name!r} has no annotation, so it cannot be validated"
                )

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The annotations, resolved; the class for ``self``."""
        hints = hints_of(self.function, self.name)
        if self.is_method:
            if self.owner is None:
                raise self.fail("its class is not complete yet")
            hints[next(iter(self._signature.parameters))] = self.owner
        return hints

    @cached_property
    def takes_context(self) -> bool:
        """Whether the handler wants the `Context`, as its first parameter after ``self``."""
        names = [n for n in self._signature.parameters if self.hints.get(n) is Context]
        if not names:
            return False
        place = list(self._signature.parameters).index(names[0])
        by_name = self._signature.parameters[names[0]].kind is inspect.Parameter.KEYWORD_ONLY
        if len(names) > 1 or place != int(self.is_method) or by_name:
            raise self.fail("the Context must be the first parameter, and there is one of it")
        return True

    @cached_property
    def _session(self) -> str | None:
        """The name of the parameter that gets the session of ``once=``: the first one after
        ``self`` and the Context. None without ``once=``."""
        if self.once is None:
            return None
        place = int(self.is_method) + int(self.takes_context)
        parameters = list(self._signature.parameters.values())
        if len(parameters) <= place or parameters[place].kind is inspect.Parameter.KEYWORD_ONLY:
            raise self.fail(
                "with once= it takes the session first, after the Context: session: AsyncSession"
            )
        return parameters[place].name

    @cached_property
    def _injects(self) -> bool:
        parameters = self._signature.parameters.values()
        return any(is_injected(p, self.hints.get(p.name)) for p in parameters)

    @cached_property
    def payload(self) -> "Payload":
        """The parameters that travel."""
        parameters = []
        for i, parameter in enumerate(self._signature.parameters.values()):
            hint = self.hints.get(parameter.name)
            if problem := problem_with(parameter, hint):  # that was a string until now
                raise self.fail(problem)
            if hint is Context or is_injected(parameter, hint) or parameter.name == self._session:
                continue
            name = "self" if self.is_method and i == 0 else parameter.name
            if name != parameter.name:
                self.hints[name] = hint
            parameters.append(parameter.replace(name=name))
        if self.batch is not None:
            return self._payload_of([self._rows], {self._rows.name: self._row})
        return self._payload_of(parameters, self.hints)

    def _payload_of(self, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> "Payload":
        # Here, so that `import amqpjobs` does not import pydantic, which takes longer than we do.
        if self.body is None:
            from amqpjobs.jobs.message.arguments import Payload

            return Payload(self.name, parameters, hints)
        from amqpjobs.jobs.message.formatted import FormattedPayload

        make: type[FormattedPayload] = own(self.body, "payload", FormattedPayload)
        return make(
            self.body, self.name, parameters, hints, lambda: self.registered_in or self.name
        )

    @cached_property
    def _rows(self) -> inspect.Parameter:
        """The parameter of a batch's handler that takes the list."""
        given = [
            p
            for p in self._signature.parameters.values()
            if self.hints[p.name] is not Context and not is_injected(p, self.hints[p.name])
        ]
        if len(given) != 1 or given[0].kind is inspect.Parameter.KEYWORD_ONLY:
            raise self.fail("with batch= it takes one list of what each job has: rows: list[Row]")
        if given[0].default is not inspect.Parameter.empty:
            raise self.fail(f"parameter {given[0].name!r} of a batch has no default")
        return given[0]

    @property
    def _row(self) -> Any:
        """What one job has of that list."""
        row = element_of(self.hints[self._rows.name])
        if row is None:
            raise self.fail(
                f"with batch= parameter {self._rows.name!r} is a list of what each job has, such "
                f"as list[Row], not {self.hints[self._rows.name]!r}"
            )
        return row

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The handler, with its dependencies supplied if it asks for any; an ``async def`` if its
        kind is ``async``, whatever stands around it."""
        handler = self._handler
        if self.once is not None and self._session is not None:
            place = int(self.is_method) + int(self.takes_context)
            asynchronous = self.kind == "async"
            return transactional(handler, self.name, self.once, place, is_async=asynchronous)
        return handler if self.batch is None else taking_one(handler, self._rows.name)

    @cached_property
    def _handler(self) -> Callable[..., Any]:
        handler = awaitable(self.function) if self.kind == "async" else self.function
        if not self._injects:
            return handler
        from amqpjobs.jobs.injection import injected

        try:
            return injected(handler, self.name)
        except ConfigurationError as error:
            raise self.fail(str(error)) from error

    @property
    def result_hint(self) -> Any:
        """The annotation of what one job returns; anything without one."""
        hint = self.hints.get("return", Any)
        return hint if self.batch is None else result_of(hint)

    @cached_property
    def result(self) -> Any:
        """A pydantic adapter for what the handler returns.

        Raises:
            ConfigurationError: its return annotation cannot become JSON.
        """
        from pydantic import PydanticUserError

        from amqpjobs.jobs.message.arguments import jsonable
        from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of

        try:
            return adapter_of(jsonable(without_verdicts(self.result_hint)))
        except PydanticUserError as error:
            raise self.fail(
                f"what it returns cannot travel as JSON: {str(error).splitlines()[0]}"
            ) from error

    @cached_property
    def result_writer(self) -> "RoundTrip":
        """What encodes a result. Without a return annotation nothing is promised: what JSON makes
        of it arrives."""
        from amqpjobs.jobs.roundtrip.roundtrip import RoundTrip

        return RoundTrip(self.result, exact="return" in self.hints)

    def with_context(self, context: Context, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The positional arguments of the function, the context among them if it wants it."""
        if not self.takes_context:
            return args
        place = int(self.is_method)
        return (*args[:place], context, *args[place:])

    def invoke(self, context: Context, arguments: "Arguments") -> Any:
        """Call the handler: a coroutine for ``async def``, else its result."""
        args, kwargs = arguments
        return self.call(*self.with_context(context, args), **kwargs)
