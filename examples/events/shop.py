"""The shop: stores orders, publishes what happens to them, and hears what billing says.

``python -m examples.events.shop place NUMBER CENTS [COUNTRY]`` places an order. With ``orders`` it
lists them.
"""

import asyncio
import os
import sys
from typing import Any

from pydantic import BaseModel
from sqlalchemy import event, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from amqpjobs import App, Context, Exchange

engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ.get('EVENTS_SHOP', 'shop.db')}")
Sessions = async_sessionmaker(engine, expire_on_commit=False)


@event.listens_for(engine.sync_engine, "connect")
def connected(connection: Any, record: object) -> None:
    """Let SQLAlchemy begin transactions, not Python's sqlite3, which does so too late."""
    connection.isolation_level = None


@event.listens_for(engine.sync_engine, "begin")
def begun(connection: Any) -> None:
    """Begin as a writer, so that two transactions never wait for each other in a circle."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class Base(DeclarativeBase):
    """The models, and by `app.outbox` the tables of amqpjobs."""


class Order(Base):
    """What a customer has ordered, and what has become of it."""

    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    country: Mapped[str]
    state: Mapped[str] = mapped_column(default="placed")


class OrderPlaced(BaseModel):
    """The event ``order.placed``. Other services may rely on these fields."""

    number: int
    cents: int
    country: str


class InvoiceEnded(BaseModel):
    """What the shop needs to know of an event of billing; that may have more fields."""

    order: int


ORDERS = Exchange("orders", type="topic")
INVOICES = Exchange("invoices", type="topic")

app = App("shop")
app.outbox(Base.metadata, bind=engine)
app.publishes(ORDERS, "order.placed", OrderPlaced)


@app.on_start
async def make_tables() -> None:
    """Make what is missing. A real shop has Alembic for that."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


@app.on_stop
async def end() -> None:
    """In each worker, after its last job."""
    await engine.dispose()


@app.on(INVOICES, "invoice.*", queue="shop.invoices", once=Sessions)
async def invoice_ended(ctx: Context, session: AsyncSession, invoice: InvoiceEnded) -> None:
    """Note whether an order is paid: once, however often RabbitMQ delivers the event."""
    assert ctx.event is not None  # noqa: S101 - it comes by the exchange only
    order = await session.get_one(Order, invoice.order)
    order.state = ctx.event.routing_key.removeprefix("invoice.")


async def place(number: int, cents: int, country: str) -> None:
    """Store an order, and publish that it is placed: both, or neither."""
    async with Sessions.begin() as session:
        session.add(Order(number=number, cents=cents, country=country))
        placed = OrderPlaced(number=number, cents=cents, country=country)
        await app.publish(ORDERS, "order.placed", placed, within=session)


async def main(command: str, *arguments: str) -> None:
    """What the command line says."""
    await make_tables()
    if command == "place":
        number, cents, country = (*arguments, "DE")[:3]
        async with app.lifespan():
            await place(int(number), int(cents), country)
    else:
        async with Sessions() as session:
            for order in await session.scalars(select(Order).order_by(Order.number)):
                print(f"order {order.number}: {order.state}")
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
