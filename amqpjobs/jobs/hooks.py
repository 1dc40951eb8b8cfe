"""The hooks of an app at start and end of each worker process, and its resources.

Running it is `amqpjobs.worker.hooks`. Changes when there is another moment to hook into.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeVar

from amqpjobs.errors import ConfigurationError

WorkerHook: TypeAlias = Callable[[], Awaitable[object] | object]
"""Called once in each worker process: ``async def`` or ``def``, without arguments."""

H = TypeVar("H", bound=WorkerHook)

OUTSIDE: Final[Any] = object()
"""The value of resources where they are not open."""


class WorkerHooks:
    """The hooks of one app.

    Attributes:
        on_start: in the order in which they are called.
        on_stop: called in reverse order.
        lifespan: makes the context manager around all of them; None for none.
        value: what the lifespan gave, in the worker that runs here.
    """

    def __init__(self) -> None:
        self.on_start: list[WorkerHook] = []
        self.on_stop: list[WorkerHook] = []
        self.lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None
        self.value: ContextVar[Any] = ContextVar("amqpjobs_resources", default=OUTSIDE)

    def __repr__(self) -> str:
        return f"<WorkerHooks: {len(self.on_start)} on start, {len(self.on_stop)} on stop>"

    def resources(self) -> Any:
        """The value of the lifespan. See `App.resources`.

        Raises:
            ConfigurationError: no worker runs here, or the app has no lifespan.
        """
        value = self.value.get()
        if value is OUTSIDE or self.lifespan is None:
            raise ConfigurationError(
                "the resources of an app are open in its workers, in `amqpjobs run` and in "
                "app.testing() only; they come from App(lifespan=...)"
            )
        return value


class DeclaresHooks:
    """What an app has for its worker processes.

    Args:
        hooks: of the app.
        lifespan: makes the context manager of its resources.
    """

    def __init__(
        self, hooks: WorkerHooks, lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None
    ) -> None:
        self._worker_hooks = hooks
        hooks.lifespan = lifespan

    def on_start(self, function: H) -> H:
        """Call a function once in each worker process, before anything is consumed. What it raises
        ends the worker. ``async def`` or ``def``, without arguments.

        Example:
            >>> @app.on_start
            ... async def warm_up() -> None:
            ...     print("before the first job")
        """
        self._worker_hooks.on_start.append(function)
        return function

    def on_stop(self, function: H) -> H:
        """Call a function once in each worker process after its last job, within the shutdown
        budget, in reverse order; also after a start that failed or was interrupted. What it raises
        is logged.

        Example:
            >>> @app.on_stop
            ... def report_end() -> None:
            ...     print("after the last job")
        """
        self._worker_hooks.on_stop.append(function)
        return function

    def resources(self) -> Any:
        """What the ``lifespan`` of the app yielded in this worker process: a dependency of jobs.

        Raises:
            ConfigurationError: called where no worker of the app runs.

        Example:
            >>> @app.job(queue="reports")
            ... async def query(pool: Annotated[str, Depends(app.resources)] = INJECTED) -> str:
            ...     return pool
        """
        return self._worker_hooks.resources()
