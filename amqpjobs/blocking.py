"""The app for synchronous code: the same guarantees, from threads without an event loop."""

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from amqpjobs.errors import ConfigurationError
from amqpjobs.message import JobHandle, Message

if TYPE_CHECKING:
    from collections.abc import Iterable

    from amqpjobs.app import App

R = TypeVar("R")


class BlockingApp:
    """``with app.blocking() as client:`` publishes from WSGI applications, scripts and threads.

    One thread with an event loop does the work; any number of threads may call. In a web server
    that forks, open it after the fork.
    """

    def __init__(self, app: "App") -> None:
        self._app = app
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        portal = self._stack.enter_context(start_blocking_portal())
        try:
            self._stack.enter_context(portal.wrap_async_context_manager(self._app.lifespan()))
        except BaseException:
            self._stack.close()
            raise
        self._portal = portal
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._portal = None
        self._stack.close()

    def later(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message: ``client.later(job.message(x))``. See `Job.later`."""
        return self._open_portal().call(self._app.enqueue, message)

    def later_many(self, messages: "Iterable[Message[R]]") -> list[JobHandle[R]]:
        """Publish many messages. See `App.later_many`."""
        return self._open_portal().call(self._app.later_many, messages)

    def request(self, message: Message[R], *, timeout: float | None = None) -> R:
        """Run a job in a worker, and wait for its result. See `App.request`.

        Args:
            message: ``job.message(x)``.
            timeout: seconds; None for the message's own, else the setting.
        """

        async def ask() -> R:
            return await self._app.request(message, timeout=timeout)

        return self._open_portal().call(ask)

    def _open_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise ConfigurationError("use it inside of `with app.blocking() as client:`")
        return self._portal
