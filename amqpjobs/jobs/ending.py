"""The hooks of an app at the end of its jobs: `App.on_failed`, `App.on_retry`, `App.on_success`.

Calling them is `amqpjobs.worker.ending_hooks`. Changes when there is another end to hook into.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Literal, TypeAlias, TypeVar, overload

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.handlers import is_generator
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.failure import Failure


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended, as the hooks of an app get it.

    Attributes:
        job: its name; as the message says it, if no job here has this name; empty if it says none.
        id: of the job; empty for a message that has none.
        queue: the AMQP queue that it came from.
        attempt: which run it was, from 1.
        outcome: a word, as in the log: ``done``, ``retried``, or the reason of the failure, such as
            ``failed``, ``rejected``, ``invalid``, ``undecodable``, ``poison``, ``expired``.
        failure: why it failed; None after a success.
        arguments: as they were sent, by the name of the parameter; None where they do not fit, and
            in quarantine, where only the job's own process validates them.
        result: what the handler returned.
        error: what it raised, if it raised something.
    """

    job: str
    id: str
    queue: str
    attempt: int
    outcome: str
    failure: Failure | None = None
    arguments: Mapping[str, Any] | None = None
    result: object = None
    error: BaseException | None = field(default=None, repr=False)


EndingHook: TypeAlias = Callable[[Ended], Awaitable[object] | object]
"""Called with each end of its kind: ``async def`` on the event loop, ``def`` in a thread."""

Kind: TypeAlias = Literal["failed", "retried", "succeeded"]

H = TypeVar("H", bound=EndingHook)


@dataclass(frozen=True, slots=True)
class Hooked:
    """One hook.

    Attributes:
        function: the user's.
        jobs: gives the names of those whose ends it is called for; None for all.
    """

    function: EndingHook
    jobs: Callable[[], Collection[str]] | None = None


class EndingHooks:
    """The hooks of one app, by the kind of end.

    Attributes:
        failed, retried, succeeded: in the order in which they were declared.
    """

    def __init__(self) -> None:
        self.failed: list[Hooked] = []
        self.retried: list[Hooked] = []
        self.succeeded: list[Hooked] = []

    def add(self, kind: "Kind", hooked: Hooked) -> None:
        """Declare one."""
        {"failed": self.failed, "retried": self.retried, "succeeded": self.succeeded}[kind].append(
            hooked
        )

    def __bool__(self) -> bool:
        return bool(self.failed or self.retried or self.succeeded)

    def __repr__(self) -> str:
        numbers = len(self.failed), len(self.retried), len(self.succeeded)
        return "<EndingHooks: {} on failed, {} on retry, {} on success>".format(*numbers)


class DeclaresEndings:
    """What an app has for the ends of its jobs. A hook is called after the job is settled, so that
    nothing that it does, or raises, costs the job anything; if the process dies in between, it is
    not called. What must not be lost is a job: ``with_options(on_failure=...)``.
    """

    _add_ending_hook: "Callable[[Kind, Hooked], None]"

    @overload
    def on_failed(self, what: Job[..., Any, Any], /) -> Callable[[H], H]: ...
    @overload
    def on_failed(self, what: H, /) -> H: ...
    def on_failed(self, what: Any, /) -> Any:
        """Call a function when a job has failed for good: no attempt is left, it was rejected,
        expired, or never got to a handler (``invalid``, ``undecodable``, ``poison``).

        Args:
            what: a job, to be called for that one; or the function itself, for all jobs.

        Example:
            >>> @app.on_failed
            ... async def alert(ended: Ended) -> None:
            ...     print(ended.job, ended.outcome)
        """
        return _hooked(self._add_ending_hook, "failed", what, "on_failed")

    @overload
    def on_retry(self, what: Job[..., Any, Any], /) -> Callable[[H], H]: ...
    @overload
    def on_retry(self, what: H, /) -> H: ...
    def on_retry(self, what: Any, /) -> Any:
        """Call a function when a run has failed and the job runs again. See `on_failed`.

        Example:
            >>> @app.on_retry(build_report)
            ... def count(ended: Ended) -> None:
            ...     print(ended.attempt)
        """
        return _hooked(self._add_ending_hook, "retried", what, "on_retry")

    @overload
    def on_success(self, what: Job[..., Any, Any], /) -> Callable[[H], H]: ...
    @overload
    def on_success(self, what: H, /) -> H: ...
    def on_success(self, what: Any, /) -> Any:
        """Call a function when a job is done. See `on_failed`.

        Example:
            >>> @app.on_success(build_report)
            ... async def announce(ended: Ended) -> None:
            ...     print(ended.result)
        """
        return _hooked(self._add_ending_hook, "succeeded", what, "on_success")


def _hooked(add: Callable[[Kind, Hooked], None], kind: Kind, what: Any, name: str) -> Any:
    def declare(function: Any, job: Job[..., Any, Any] | None = None) -> Any:
        if isinstance(function, Job) or is_generator(function) or not _takes_one(function):
            raise ConfigurationError(
                f"{name} is for a function that takes one argument, not {function!r}: write "
                f"`@app.{name}`, or `@app.{name}(job)` for one job, above it"
            )
        # Asked for its name at each end: a router may be renamed after this.
        add(kind, Hooked(function, None if job is None else lambda: (job.name,)))
        return function

    if isinstance(what, Job):
        return lambda function: declare(function, what)
    return declare(what)


def _takes_one(function: Any) -> bool:
    try:
        signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # what is written in C may tell nothing
        return callable(function)
    return True
