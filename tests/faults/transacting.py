"""The app of the fault tests whose effects are transactions, in a process that ends at a named
point, once.

`FAULTS_STORE` is the database, `FAULTS_KIND` says whether the handler is an ``async def``. `CRASH`
names the point; the points are laid around the package's functions from here.
"""

import os
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from amqpjobs import App, Context, Retry
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel
from amqpjobs.settings import Settings
from amqpjobs.state.inbox import transactions
from amqpjobs.state.outbox.relay import Relay
from tests.faults.crashing import CRASH, crash
from tests.support.shop import async_engine, begins_itself

STORE: Final = "FAULTS_STORE"
KIND: Final = "FAULTS_KIND"

POINTS: Final = (
    "before begin",
    "before row",
    "after row",
    "in handler",
    "before commit",
    "after commit",
    "before delete",
    "after delete",
    "before ack",
    "after ack",
)


class Base(DeclarativeBase):
    """The models of this app."""


class Charge(Base):
    """The effect of a charge. Nothing in the database keeps it from being there twice."""

    __tablename__ = "faults_charge"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str]
    receipt_id: Mapped[str]


class Receipt(Base):
    """The effect of a receipt."""

    __tablename__ = "faults_receipt"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str]


def sync_engine(url: str) -> Engine:
    """An engine for plain handlers."""
    return begins_itself(create_engine(url.replace("postgresql://", "postgresql+psycopg://")))


def build(url: str, kind: str = "async", settings: Settings | None = None) -> tuple[App, Any]:
    """The app, and the job that charges."""
    app = App("faults", settings=settings, retry=Retry(attempts=1))
    engine = async_engine(url)
    app.outbox(MetaData() if settings else Base.metadata, bind=engine)
    sessions = async_sessionmaker(engine)

    @app.job(queue="other", once=sessions, name="receipt")
    async def receipt(ctx: Context, session: AsyncSession) -> None:
        session.add(Receipt(job_id=ctx.job_id))

    if kind == "async":

        @app.job(queue="work", once=sessions, name="charge")
        async def charge(ctx: Context, session: AsyncSession) -> None:
            sent = await receipt.later()
            session.add(Charge(job_id=ctx.job_id, receipt_id=sent.id))
            await session.flush()
            at("in handler", ctx.job)

        return app, charge

    @app.job(queue="work", once=sessionmaker(sync_engine(url)), name="charge")
    def charge_now(ctx: Context, session: Session) -> None:
        sent = receipt.within(session).later()
        session.add(Charge(job_id=ctx.job_id, receipt_id=sent.id))
        session.flush()
        at("in handler", ctx.job)

    return app, charge_now


def at(place: str, job: str = "charge") -> None:
    """End here, if this is the point."""
    if job == "charge" and os.environ.get(CRASH) == place:
        crash()


def around(owner: Any, name: str, before: str | None, after: str | None) -> None:
    """Name the points before and after a function, or a coroutine function, of a class."""
    function: Callable[..., Any] = getattr(owner, name)
    import inspect

    def job_of(args: tuple[Any, ...]) -> str:
        run = args[0]
        if isinstance(run, transactions._Run):
            return run.context.job
        return args[1] if len(args) > 1 and args[1] == "receipt" else "charge"

    if inspect.iscoroutinefunction(function):

        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                at(before, job_of(args))
            result = await function(*args, **kwargs)
            if after:
                at(after, job_of(args))
            return result

    else:

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                at(before, job_of(args))
            result = function(*args, **kwargs)
            if after:
                at(after, job_of(args))
            return result

    setattr(owner, name, wrapped)


def arm() -> None:
    """Lay the points around the package's functions."""
    for name in ("run", "run_now"):
        around(transactions.InTransactions, name, "before begin", "after commit")
    around(transactions._Run, "enter", "before row", "after row")
    around(transactions._Run, "check", None, "before commit")
    around(Relay, "settle", "before delete", "after delete")
    flush = ConsumerChannel.flush

    def flushed(channel: ConsumerChannel) -> None:
        acking = bool(channel._acked)
        if acking:
            at("before ack")
        flush(channel)
        if acking:
            channel._protocol.flush()
            at("after ack")

    ConsumerChannel.flush = flushed  # type: ignore[method-assign]


if STORE in os.environ:
    app, _ = build(os.environ[STORE], os.environ.get(KIND, "async"))
    if os.environ.get(CRASH):
        arm()
