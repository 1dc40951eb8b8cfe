"""A durable job of five steps, with children and undo, in a process that ends at a transaction of
its own choice, once.

`FAULTS_STORE` is the database, where the store and the effects are. `FAULTS_CRASH` says at which of
its transactions for durable jobs the process ends, and on which side of the commit: ``3 before``.
``before ack`` and ``after ack`` are the settlement of any delivery.
"""

import asyncio
import os
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amqpjobs import App, Context, Retry
from amqpjobs.broker.rabbitmq.delivery import ConsumerChannel
from amqpjobs.settings import Settings
from amqpjobs.state.durable.groups import Groups
from tests.faults.crashing import CRASH, crash
from tests.support.shop import async_engine

STORE: Final = "FAULTS_STORE"

TRANSACTIONS: Final = 12
"""Of one durable job that is done, and its children; those of one that is undone are more."""

POINTS: Final = (
    *(f"{n} {side}" for n in range(1, TRANSACTIONS + 1) for side in ("before", "after")),
    "before ack",
    "after ack",
)

DONE: Final = ("reserve", "charge", "ship", "bill", "book")
"""The effects of an order that is done."""


class Base(DeclarativeBase):
    """The models of this app."""


class Effect(Base):
    """One effect of a step. Nothing in the database keeps it from being there twice."""

    __tablename__ = "faults_effect"
    id: Mapped[int] = mapped_column(primary_key=True)
    order: Mapped[str]
    name: Mapped[str]


def build(url: str, settings: Settings | None = None) -> tuple[App, Any]:
    """The app, and the durable job."""
    app = App("faults", settings=settings, retry=Retry(attempts=3, first=0.05))
    sessions = async_sessionmaker(async_engine(url))

    @app.job(queue="other", once=sessions, name="effect")
    async def effect(session: AsyncSession, order: str, name: str) -> str:
        session.add(Effect(order=order, name=name))
        return f"{order} {name}"

    @app.job(queue="other", once=sessions, name="refuse", retry=Retry(attempts=1))
    async def refuse(session: AsyncSession, order: str) -> None:
        raise ValueError("none left")

    @app.job(queue="other", once=sessions, name="take-back")
    async def take_back(session: AsyncSession, done: str) -> None:
        order, name = done.split()
        session.add(Effect(order=order, name=f"un-{name}"))

    async def rate(currency: str) -> float:
        return 1.5

    @app.job(queue="work", durable=True, name="fulfil", keep_result=True)
    async def fulfil(ctx: Context, order: str, fails: bool) -> str:
        async with sessions.begin() as session, ctx.step_in(session, "reserve") as step:
            if step.open:
                session.add(Effect(order=order, name="reserve"))
        worth = await ctx.step("rate", rate, "EUR")
        await ctx.call("charge", effect, order, "charge", undo=take_back)
        await asyncio.gather(
            ctx.call("ship", effect, order, "ship", undo=take_back),
            ctx.call("bill", effect, order, "bill"),
        )
        if fails:
            await ctx.call("refuse", refuse, order)
        async with sessions.begin() as session, ctx.step_in(session, "book") as step:
            if step.open:
                session.add(Effect(order=order, name="book"))
        return f"{order} at {worth}"

    return app, fulfil


def arm(point: str) -> None:
    """Lay the point around the package's functions."""
    if point.endswith("ack"):
        _arm_ack(point)
        return
    number, side = point.split()
    together, left = Groups._together, int(number)

    async def counted(groups: Groups, work: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and side == "before":
            crash()
        await together(groups, work)
        if left == 0:
            crash()

    Groups._together = counted  # type: ignore[method-assign]


def _arm_ack(point: str) -> None:
    flush = ConsumerChannel.flush

    def flushed(channel: ConsumerChannel) -> None:
        acking = bool(channel._acked)
        if acking and point == "before ack":
            crash()
        flush(channel)
        if acking:
            channel._protocol.flush()
            crash()

    ConsumerChannel.flush = flushed  # type: ignore[method-assign]


if STORE in os.environ:
    app, _ = build(os.environ[STORE])
    if CRASH in os.environ:
        arm(os.environ[CRASH])
