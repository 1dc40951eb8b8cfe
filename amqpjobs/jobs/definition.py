"""The definition of one job: the options of ``@app.job``, and the signature of its function.

Changes when a handler may look differently, or be told something new.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from functools import cached_property
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
)

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.annotations import hints_of, without_verdicts
from amqpjobs.jobs.batch import Batch, element_of, result_of, taking_one
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.durations import Seconds, number_of
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.handlers import awaitable, is_async, is_generator
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.markers import is_dependency, is_injected, problem_with
from amqpjobs.jobs.middleware import Processing, checked
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.retry import DEFAULT_RETRY, Retry
from amqpjobs.jobs.schedule.declared import METHOD, argument_problem, checked_schedules
from amqpjobs.jobs.schedule.schedule import GivenSchedules

if TYPE_CHECKING:
    from amqpjobs.jobs.message.arguments import Arguments, Payload
    from amqpjobs.jobs.roundtrip.roundtrip import RoundTrip

R = TypeVar("R")

LONGEST_KEEP = 3_153_600_000
"""Seconds, a hundred years: what is to be kept for ever belongs elsewhere, but may be kept here."""

Kind: TypeAlias = Literal["async", "thread", "process"]


class Definition:
    """What ``@app.job`` was told, and what the function says about itself.

    Args:
        function: the handler as it was written.
        queue: where its messages wait.
        app: whom to ask to publish.
        name: the AMQP ``type``; None for the function's own qualified name.
        timeout: seconds, or a timedelta, that one run may take; None for no limit.
        grace: seconds, or a timedelta, for which an ``async def`` may clean up after its timeout;
            None for the shutdown budget of its worker.
        cpu: run it in a worker process that is killed at its timeout.
        memory_limit: bytes of address space of that process; None for no limit.
        retry: when it runs again after a failure; None for the app's policy.
        track: whether its status is recorded.
        batch: run many jobs in one call; None for one by one.
        keep_result: whether its status has its result; or for how long, in seconds.
        cancellable: whether a run of it may be cancelled.
        at_most_once: whether its messages are acked before it runs.
        middleware: around its runs, inside that of its queue and its app.
        schedule: when it is sent by itself; None for never.

    Attributes:
        given_name: its name without the prefixes of routers.
        worker_hooks: those of its app, from when it is registered.
        queues: those of its app by name, from the same time.
        registered_in: the name of its app, from then on; None for one of a router before that.
        sender: that app.
        included_by: the module that includes its router in the app; None without a router.
        everywhere: its definitions in all apps that include its router; the first is the job's own.
        policy: its retry policy, else its app's, from when it is registered.
        layers: all middleware around its runs, outermost first, from when it is registered.
        direct: whether its handler is called with nothing around it: the commonest job.

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
        timeout: float | timedelta | None = None,
        grace: float | timedelta | None = None,
        cpu: bool = False,
        memory_limit: int | None = None,
        retry: Retry | None = None,
        track: bool = True,
        keep_result: bool | float | timedelta = False,
        cancellable: bool = False,
        batch: Batch | None = None,
        at_most_once: bool = False,
        middleware: Sequence[Processing] = (),
        schedule: GivenSchedules = None,
    ) -> None:
        # `f.<locals>.C.m` is known as `C.m`: where a class was made is no concern of the wire.
        qualified = function.__qualname__.rpartition("<locals>.")[2]
        self.name = self.given_name = name or qualified
        self.function = function
        self.queue = queue
        self.app = app
        self.timeout = None if timeout is None else self._seconds("timeout", timeout)
        self.grace = None if grace is None else self._seconds("grace", grace)
        self.memory_limit = memory_limit
        self.retry = retry
        self.track, self.batch, self.cancellable = track, batch, cancellable
        self.keep_result: bool | float = (
            keep_result.total_seconds() if isinstance(keep_result, timedelta) else keep_result
        )
        self.at_most_once = at_most_once
        self.schedules = checked_schedules(schedule, self.fail)
        self.worker_hooks: WorkerHooks | None = None
        self.queues: Mapping[str, Queue] = {queue.name: queue}
        self.registered_in: str | None = None
        self.sender: Enqueuer | None = None
        self.included_by: str | None = None
        self.everywhere = [self]
        self.is_method = "." in qualified
        self.owner: type | None = None
        self.kind: Kind = self._kind(cpu)
        self.policy = retry or DEFAULT_RETRY
        self._middleware = checked(middleware, f"middleware of the job {self.name!r}")
        self.surround(())
        self._check_options()
        self._signature = inspect.signature(function)
        self._check_parameters()

    def __repr__(self) -> str:
        return f"<job {self.name} on {self.queue.name}>"

    def rename(self, name: str) -> None:
        """Give it another name, which no app has seen yet."""
        self.name = name
        self.__dict__.pop("payload", None)  # has the name in its errors
        self._check_options()

    def for_next_app(self) -> "Definition":
        """Itself for the first app, a definition of its own for each further one."""
        if self.registered_in is None:
            return self
        other = copy(self)
        self.everywhere.append(other)  # the list of all of them
        return other

    def in_app(self, name: str | None) -> "Definition":
        """Its definition in the app of this name."""
        return next((each for each in self.everywhere if each.registered_in == name), self)

    def owned_by(self, owner: type) -> None:
        """The class whose method it is."""
        for each in self.everywhere:
            each.owner = owner

    def check_early(self) -> None:
        """Check it where it is declared, as far as that is possible.

        Raises:
            ConfigurationError: it cannot be a job.
        """
        if self.is_method:
            return
        try:
            self.check()
        except ConfigurationError as error:
            # A name that is defined further down in the module: `check` looks again.
            if not isinstance(error.__cause__, NameError):
                raise

    def surround(self, processing: Sequence[Processing]) -> None:
        """Put the middleware of the app around that of the queue and the job."""
        self.layers = (*processing, *self.queue.middleware, *self._middleware)
        bare = not self.layers and self.batch is None
        self.direct = bare and self.kind == "async" and self.timeout is None

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

    def _seconds(self, what: str, given: Seconds) -> float:
        seconds = number_of(given)
        if seconds is None or not seconds > 0:
            raise self.fail(f"{what} is a number of seconds above 0, or a timedelta, not {given!r}")
        return seconds

    def _check_options(self) -> None:
        if self.grace is not None and (self.timeout is None or self.kind != "async"):
            raise self.fail(
                "grace= is what an `async def` has after its timeout=: a thread cannot be ended, "
                "and a process is killed at once"
            )
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
        if self.batch is not None:
            self._check_batch(self.batch)
        if self.at_most_once and self.retry is not None and self.retry.attempts != 1:
            raise self.fail(
                "at_most_once=True runs it once: there is nothing to retry. Leave retry= out"
            )
        if self.schedules and self.is_method:
            raise self.fail(METHOD)
        if len(self.name.encode()) > 255:
            raise self.fail("its name is over 255 bytes, the limit of the AMQP property `type`")

    def _check_batch(self, batch: object) -> None:
        if not isinstance(batch, Batch):
            raise self.fail(f"batch is a Batch(...), such as Batch(100, within=0.5), not {batch!r}")
        if self.kind != "async" or self.is_method:
            raise self.fail("batch= is for an `async def`, and not for a method")
        if self.at_most_once:
            raise self.fail("batch= settles each job by what became of it: leave at_most_once out")

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
        if self.batch is not None:
            return Payload(self.name, [self._rows], {self._rows.name: self._row})
        return Payload(self.name, parameters, self.hints)

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
    def _result_hint(self) -> Any:
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
            return adapter_of(jsonable(without_verdicts(self._result_hint)))
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
        if self.schedules and self.payload.required:
            raise self.fail(argument_problem(self.payload.required[0]))

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
