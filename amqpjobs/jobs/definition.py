"""What is known of one job: what ``@app.job`` was told, and what the function says about itself.

Changes when a handler may look differently, or be told something new.
"""

import inspect
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    Protocol,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_type_hints,
)

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.handlers import awaitable, is_async, is_generator
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.markers import is_dependency, is_injected, problem_with
from amqpjobs.jobs.message.message import JobHandle, Message
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.verdicts import Verdict

if TYPE_CHECKING:
    from amqpjobs.jobs.message.arguments import Arguments, Payload
    from amqpjobs.jobs.roundtrip.roundtrip import RoundTrip

R = TypeVar("R")

LONGEST_KEEP = 3_153_600_000
"""Seconds, a hundred years: what is to be kept for ever belongs elsewhere, but may be kept here."""

Kind: TypeAlias = Literal["async", "thread", "process"]


class Enqueuer(Protocol):
    """What a job needs of its app."""

    worker_hooks: WorkerHooks

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish, and return when the broker has confirmed."""
        ...

    async def request(self, message: Message[R], /) -> R:
        """Publish, and return the result when it is there."""
        ...

    async def close(self) -> None:
        """Close what publishing has opened on this event loop."""
        ...


class Definition:
    """What ``@app.job`` was told, and what the function says about itself.

    Args:
        function: the handler as it was written.
        queue: where its messages wait.
        app: whom to ask to publish.
        name: the AMQP ``type``; None for the function's own qualified name.
        timeout: seconds one run may take; None for no limit.
        cpu: run it in a worker process that is killed at its timeout.
        memory_limit: bytes of address space of that process; None for no limit.
        retry: when it runs again after a failure; None for the app's policy.
        track: whether its status is told.
        keep_result: whether its status has its result; or for how long, in seconds.

    Raises:
        ConfigurationError: a function that cannot be a job, by name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        queue: Queue,
        app: Enqueuer,
        *,
        name: str | None = None,
        timeout: float | None = None,
        cpu: bool = False,
        memory_limit: int | None = None,
        retry: Retry | None = None,
        track: bool = True,
        keep_result: bool | float | timedelta = False,
    ) -> None:
        # `f.<locals>.C.m` is known as `C.m`: where a class was made is no concern of the wire.
        qualified = function.__qualname__.rpartition("<locals>.")[2]
        self.name = name or qualified
        self.function = function
        self.queue = queue
        self.app = app
        self.timeout = timeout
        self.memory_limit = memory_limit
        self.retry = retry
        self.track = track
        self.keep_result: bool | float = (
            keep_result.total_seconds() if isinstance(keep_result, timedelta) else keep_result
        )
        self.is_method = "." in qualified
        self.owner: type | None = None
        self.kind: Kind = self._kind(cpu)
        self._check_options()
        self._signature = inspect.signature(function)
        self._check_parameters()

    def __repr__(self) -> str:
        return f"<job {self.name} on {self.queue.name}>"

    def fail(self, problem: str) -> ConfigurationError:
        """An error that names the function and where it is."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        place = f"{code.co_filename}:{code.co_firstlineno}" if code else self.function.__module__
        return ConfigurationError(f"job {self.name!r} ({place}): {problem}")

    def _kind(self, cpu: bool) -> Kind:
        if is_generator(self.function):
            raise self.fail("a generator cannot be a job; return a value")
        if is_async(self.function):
            if cpu:
                raise self.fail("cpu=True is for a plain `def`: it runs in a process of its own")
            return "async"
        return "process" if cpu else "thread"

    def _check_options(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise self.fail(f"timeout is a number of seconds above 0, not {self.timeout!r}")
        if self.memory_limit is not None and self.kind != "process":
            raise self.fail("memory_limit needs cpu=True: only a process has a memory of its own")
        if self.memory_limit is not None and self.memory_limit < 1:
            raise self.fail(f"memory_limit is a number of bytes, not {self.memory_limit!r}")
        if not isinstance(self.keep_result, bool) and not 0 < self.keep_result <= LONGEST_KEEP:
            raise self.fail(
                f"keep_result is True, or seconds above 0 and up to {LONGEST_KEEP}, not "
                f"{self.keep_result!r}"
            )
        if self.keep_result and not self.track:
            raise self.fail("keep_result needs track=True: the result is a part of the status")
        if len(self.name.encode()) > 255:
            raise self.fail("its name is over 255 bytes, the limit of the AMQP property `type`")

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
    def _injects(self) -> bool:
        parameters = self._signature.parameters.values()
        return any(is_injected(p, self.hints.get(p.name)) for p in parameters)

    @cached_property
    def payload(self) -> "Payload":
        """The parameters that travel."""
        # Here, so that `import amqpjobs` does not import pydantic, which takes longer than we do.
        from amqpjobs.jobs.message.arguments import Payload

        parameters = []
        for i, parameter in enumerate(self._signature.parameters.values()):
            hint = self.hints.get(parameter.name)
            if problem := problem_with(parameter, hint):  # that was a string until now
                raise self.fail(problem)
            if hint is Context or is_injected(parameter, hint):
                continue
            name = "self" if self.is_method and i == 0 else parameter.name
            if name != parameter.name:
                self.hints[name] = hint
            parameters.append(parameter.replace(name=name))
        return Payload(self.name, parameters, self.hints)

    @cached_property
    def call(self) -> Callable[..., Any]:
        """The handler, with its dependencies supplied if it asks for any; an ``async def`` if its
        kind is ``async``, whatever stands around it."""
        handler = awaitable(self.function) if self.kind == "async" else self.function
        if not self._injects:
            return handler
        from fast_depends import inject

        try:
            return inject(handler, cast=False)
        except AssertionError as error:
            raise self.fail(str(error)) from error

    @cached_property
    def result(self) -> Any:
        """A pydantic adapter for what the handler returns.

        Raises:
            ConfigurationError: its return annotation cannot become JSON.
        """
        from pydantic import PydanticUserError, TypeAdapter

        from amqpjobs.jobs.message.arguments import jsonable

        try:
            return TypeAdapter(jsonable(_without_verdicts(self.hints.get("return", Any))))
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

    def check(self) -> None:
        """Resolve everything that may be wrong.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        _ = self.takes_context, self.payload, self.call

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


def hints_of(function: Callable[..., Any], job: str) -> dict[str, Any]:
    """The annotations of a handler, resolved.

    Raises:
        ConfigurationError: a parameter without one, or a name that cannot be resolved.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"job {job!r}: the annotation {error.name!r} cannot be resolved at run time; import it "
            "outside of `if TYPE_CHECKING:` and at the top of the module"
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise ConfigurationError(
            f"job {job!r}: an annotation cannot be evaluated at run time: {error}"
        ) from error
    return hints


def _without_verdicts(hint: Any) -> Any:
    """The annotation of a result: a verdict that may be returned is no result."""
    given = get_args(hint)
    kinds = [kind for kind in given if not (isinstance(kind, type) and issubclass(kind, Verdict))]
    return Union[tuple(kinds)] if kinds and len(kinds) < len(given) else hint  # noqa: UP007
