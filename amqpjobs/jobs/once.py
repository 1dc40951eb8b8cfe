"""Jobs whose effect is a transaction: ``once=Sessions``, and the handler that gets the session.

What makes the transaction in a worker is `amqpjobs.state.inbox`; a plain call makes one by itself.
Changes when such a handler may look differently.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol, TypeAlias

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.run_context import current_context

Sessions: TypeAlias = Callable[[], Any]
"""An ``async_sessionmaker`` or ``sessionmaker`` of SQLAlchemy, or what returns such sessions."""

Work: TypeAlias = Callable[[Any], Any]
"""The handler with its arguments, waiting for the session."""


class Transactions(Protocol):
    """Runs handlers in transactions, in a worker."""

    async def run(self, job: str, sessions: Sessions, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """Run an ``async def`` once, with a session; or return what it returned before."""
        ...

    def run_now(self, job: str, sessions: Sessions, work: Work) -> Any:
        """The same for a plain ``def``, in its thread."""
        ...


transactions: ContextVar[Transactions | None] = ContextVar("amqpjobs_transactions", default=None)
"""None where no worker is. A variable, so that no run has to be given it."""


class CurrentSession:
    """The session of a handler.

    Attributes:
        session: of SQLAlchemy.
        over: whether the handler has ended. A task that it has left behind sends by itself: nobody
            would commit what it stores.
    """

    __slots__ = ("over", "session")

    def __init__(self, session: Any) -> None:
        self.session = session
        self.over = False


current_session: ContextVar[CurrentSession | None] = ContextVar("amqpjobs_session", default=None)
"""That of the handler that runs here: what is sent meanwhile goes with its transaction."""


def session_here() -> Any:
    """The session of the handler that runs here; None where none does."""
    current = current_session.get()
    return None if current is None or current.over else current.session


def _worker_of(job: str) -> "Transactions | None":
    """What runs the job here, if it was a worker that has called it, and no other handler."""
    here, context = transactions.get(), current_context.get()
    if here is None or context is None or context.job != job or session_here() is not None:
        return None
    return here


def transactional(
    handler: Callable[..., Any], job: str, sessions: Sessions, place: int, *, is_async: bool
) -> Callable[..., Any]:
    """The handler with its session supplied.

    Args:
        job: its name.
        place: of the session among the positional arguments.
    """
    if is_async:

        @wraps(handler)
        async def in_transaction(*args: Any, **kwargs: Any) -> Any:
            async def work(session: Any) -> Any:
                current = CurrentSession(session)
                token = current_session.set(current)
                try:
                    return await handler(*args[:place], session, *args[place:], **kwargs)
                finally:
                    current.over = True
                    current_session.reset(token)

            here = _worker_of(job)
            if here is not None:
                return await here.run(job, sessions, work)
            async with sessions() as session, session.begin():
                return await work(session)

        return in_transaction

    @wraps(handler)
    def in_transaction_now(*args: Any, **kwargs: Any) -> Any:
        def work(session: Any) -> Any:
            current = CurrentSession(session)
            token = current_session.set(current)
            try:
                return handler(*args[:place], session, *args[place:], **kwargs)
            finally:
                current.over = True
                current_session.reset(token)

        here = _worker_of(job)
        if here is not None:
            return here.run_now(job, sessions, work)
        with sessions() as session, session.begin():
            return work(session)

    return in_transaction_now


class Handler(Protocol):
    """What `check_once` asks of a job."""

    @property
    def kind(self) -> str:
        """Where it runs."""
        ...

    @property
    def batch(self) -> object:
        """Whether it runs in batches."""
        ...

    def fail(self, problem: str) -> ConfigurationError:
        """An error that names it."""
        ...


def check_once(signature: Handler, once: object, *, at_most_once: bool) -> None:
    """See that ``once=`` can be kept for a function.

    Raises:
        ConfigurationError: it cannot; says how to fix it.
    """
    if not callable(once):
        raise signature.fail(
            f"once= is an async_sessionmaker or a sessionmaker of SQLAlchemy, not {once!r}"
        )
    if signature.kind == "process":
        raise signature.fail(
            "once= needs the session where the transaction is, and cpu=True runs elsewhere: let it "
            "return what is to be stored, to a job with once="
        )
    if at_most_once:
        raise signature.fail("once= runs it until its transaction is kept: leave at_most_once out")
    if signature.batch is not None:
        raise signature.fail("once= is for one job at a time: leave batch= out")
    made = getattr(once, "class_", None)
    commit = getattr(made, "commit", None)
    if commit is None:
        return
    asynchronous = _is_async(commit)
    if asynchronous and signature.kind != "async":
        raise signature.fail(
            "a plain `def` has a Session: give once= a sessionmaker, or make it an `async def`"
        )
    if not asynchronous and signature.kind == "async":
        raise signature.fail(
            "an `async def` has an AsyncSession: give once= an async_sessionmaker, or make it a "
            "plain `def`"
        )


def _is_async(function: object) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(function)


def no_request(job: str) -> ConfigurationError:
    """The error for a job that asks another inside of its transaction."""
    return ConfigurationError(
        f"the job {job!r} is asked inside of a transaction (once=), which would wait for what is "
        "sent after it: enqueue it with later(), or ask before, in a job without once="
    )
