"""The shop's database: SQLite by default, PostgreSQL by its URL in ``SHOP_DATABASE``."""

import os
from typing import Any

from sqlalchemy import ForeignKey, event
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

URL = os.environ.get("SHOP_DATABASE", "sqlite+aiosqlite:///shop.db")

engine = create_async_engine(URL)
Sessions = async_sessionmaker(engine, expire_on_commit=False)

if engine.dialect.name == "sqlite":
    # Python's sqlite3 begins transactions too late for savepoints: let SQLAlchemy begin them.
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, record: object) -> None:
        """Let SQLAlchemy begin transactions."""
        connection.isolation_level = None

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        """Begin as a writer, so that two transactions never wait for each other in a circle."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")


class Base(DeclarativeBase):
    """The models, and by `app.outbox(Base.metadata)` the tables of amqpjobs."""


class Order(Base):
    """What a customer has ordered."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    article: Mapped[str]
    cents: Mapped[int]


class Payment(Base):
    """What was taken for an order. Nothing here keeps an order from being paid twice: the
    transaction of the job does."""

    __tablename__ = "payments"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    cents: Mapped[int]


async def make_tables() -> None:
    """Make what is missing. A real shop has Alembic for that: see the guide's page transactions."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
