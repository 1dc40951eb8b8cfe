"""A shop whose orders and receipts are kept in a database of its own, with its outbox and inbox."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

from amqpjobs import App
from amqpjobs.state.outbox.places import Outbox


def begins_itself(engine: Engine) -> Engine:
    """Set a SQLite engine up as the guide says."""
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def connected(connection: Any, record: object) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begun(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def async_engine(url: str) -> AsyncEngine:
    """An engine for a store's URL."""
    driver = url.replace("sqlite://", "sqlite+aiosqlite://")
    driver = driver.replace("postgresql://", "postgresql+asyncpg://")
    # SQLite has one writer at a time, and on a busy machine a wait for it takes a while.
    waiting = {"timeout": 30} if driver.startswith("sqlite") else {}
    made = create_async_engine(driver, pool_pre_ping=True, connect_args=waiting)
    begins_itself(made.sync_engine)
    return made


@dataclass
class Shop:
    """An app, its models, and its database.

    Attributes:
        orders: the class of an order.
        outbox: of the app.
    """

    app: App
    engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    orders: Any
    outbox: Outbox

    async def count(self, table: Any = None) -> int:
        """How many rows there are of orders, or in a table."""
        async with self.sessions() as session:
            found = await session.scalar(
                select(func.count()).select_from(self.orders if table is None else table)
            )
            return found or 0


@asynccontextmanager
async def shop(url: str, app: App | None = None) -> AsyncIterator[Shop]:
    """A shop in an empty database."""

    class Base(DeclarativeBase):
        """The models of this shop."""

    class Order(Base):
        """What was ordered."""

        __tablename__ = "shop_order"
        id: Mapped[int] = mapped_column(primary_key=True)
        article: Mapped[str]

    app = app or App("shop")
    engine = async_engine(url)
    outbox = app.outbox(Base.metadata, bind=engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        yield Shop(app, engine, async_sessionmaker(engine, expire_on_commit=False), Order, outbox)
    finally:
        await engine.dispose()


def blocking_sessions(shop: Shop) -> "sessionmaker[Session]":
    """Sessions of the same database without an event loop; SQLite only, as no other driver is
    installed."""
    database = shop.engine.url.database
    return sessionmaker(begins_itself(create_engine(f"sqlite:///{database}")))
