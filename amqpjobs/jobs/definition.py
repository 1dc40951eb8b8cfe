"""The definition of one job: the options of ``@app.job``. Changes when a job has another option."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.batch import Batch
from amqpjobs.jobs.durable.unstored import first_stored, has_store, refusal
from amqpjobs.jobs.durations import Seconds, number_of
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.exclusion.declared import NO_RULES, Exclusion, Rules, exclusion_of
from amqpjobs.jobs.handlers import is_async, is_generator
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.message.bodies import GivenBody, body_of
from amqpjobs.jobs.message.origin import Event
from amqpjobs.jobs.middleware import Processing, checked
from amqpjobs.jobs.once import Sessions, check_once
from amqpjobs.jobs.queue.exchange import Binding
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.retry import DEFAULT_RETRY, Retry
from amqpjobs.jobs.schedule.declared import METHOD, argument_problem, checked_schedules
from amqpjobs.jobs.schedule.schedule import GivenSchedules
from amqpjobs.jobs.signature import Kind, Signature

R = TypeVar("R")

LONGEST_KEEP = 3_153_600_000
"""Seconds, a hundred years: what is to be kept for ever belongs elsewhere, but may be kept here."""


class Definition(Signature):
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
        rules: who may run at once.
        once: makes the session of its transaction; None for a job without one.
        durable: whether the results of its steps are stored.
        bindings: what of other exchanges its queue gets.
        bound_priority: the priority of the queue that gets it; None for the middle one.
        body: the format of its messages.

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
        rules: Rules = NO_RULES,
        once: Sessions | None = None,
        durable: bool = False,
        bindings: Sequence[Binding] = (),
        bound_priority: str | None = None,
        body: GivenBody = None,
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
        self.track, self.batch, self.cancellable, self.once = track, batch, cancellable, once
        self.keep_result: bool | float = (
            keep_result.total_seconds() if isinstance(keep_result, timedelta) else keep_result
        )
        self.at_most_once, self.durable = at_most_once, durable
        self.body = body_of(body)
        self.rules = rules
        self.bindings, self.bound_priority = tuple(bindings), bound_priority
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
        if durable:
            self._check_durable()
        if once is not None:
            check_once(self, once, at_most_once=at_most_once)
        self._signature = inspect.signature(function)
        self._check_parameters()

    def __repr__(self) -> str:
        return f"<job {self.name} on {self.queue.name}>"

    def rename(self, name: str) -> None:
        """Give it another name, which no app has seen yet."""
        self.name = name
        for known in ("payload", "exclusion", "remembered"):  # they have the name in their errors
            self.__dict__.pop(known, None)
        self._check_options()

    def for_next_app(self) -> "Definition":
        """Itself for the first app, a definition of its own for each further one."""
        if self.registered_in is None:
            return self
        other = copy(self)
        if self.body is not None:
            other.__dict__.pop("payload", None)  # it has the name of the app
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

    def _check_durable(self) -> None:
        if self.kind != "async":
            raise self.fail(
                "durable=True needs an `async def`: a thread cannot be suspended and resumed"
            )
        if self.once is not None or self.batch is not None or self.at_most_once:
            raise self.fail(
                "durable=True cannot be combined with once=, batch= or at_most_once=: a durable "
                "job runs several times. For a step in a transaction use ctx.step_in"
            )

    def _check_steps(self) -> None:
        if not self.takes_context:
            raise self.fail("durable=True needs the Context as the first parameter of the job")
        context = list(self._signature.parameters)[int(self.is_method)]
        if not has_store() and (found := first_stored(self.function, context)) is not None:
            raise self.fail(str(refusal(found)))

    def _check_batch(self, batch: object) -> None:
        if not isinstance(batch, Batch):
            raise self.fail(f"batch is a Batch(...), such as Batch(100, within=0.5), not {batch!r}")
        if self.kind != "async" or self.is_method:
            raise self.fail("batch= is for an `async def`, and not for a method")
        if self.at_most_once:
            raise self.fail("batch= settles each job by what became of it: leave at_most_once out")

    @property
    def remembers(self) -> bool:
        """Whether it needs the store. Schedules do not, and durable jobs do not where messages
        carry their steps."""
        return self.once is not None or self.exclusion is not None or self.is_stored

    @property
    def is_stored(self) -> bool:
        """Whether its steps are in the store. Without a store its messages carry them."""
        return self.durable and has_store()

    @cached_property
    def remembered(self) -> bool:
        """Whether the store is written before a run."""
        return self.exclusion is not None or self.durable

    @cached_property
    def exclusion(self) -> Exclusion | None:
        """Who may run at once; None where it says nothing of that."""
        return exclusion_of(self)

    def check(self) -> None:
        """Resolve everything that may be wrong.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        _ = self.takes_context, self.payload, self.call, self.exclusion
        if self.bindings and Event in self.hints.values():
            raise self.fail(
                "the payload of an event is no Event: take `ctx: Context` first, and `ctx.event` "
                "says what was published where"
            )
        if self.durable:
            self._check_steps()
        if self.schedules and self.payload.required:
            raise self.fail(argument_problem(self.payload.required[0]))
