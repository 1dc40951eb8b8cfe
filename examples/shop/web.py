"""The shop's web tier: ``uvicorn examples.shop.web:api``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from examples.shop.database import Order, Payment, Sessions, engine, make_tables
from examples.shop.jobs import app, charge

MOST_CENTS = 100_000


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Keep one connection to RabbitMQ, and the database's."""
    await make_tables()
    async with app.lifespan():
        yield
    await engine.dispose()


api = FastAPI(lifespan=lifespan)


async def transaction() -> AsyncIterator[AsyncSession]:
    """One transaction for a request: committed when the endpoint returns, rolled back when it
    raises."""
    async with Sessions.begin() as session:
        yield session


# scope="function": committed before the client gets its answer, and not after it.
Transaction = Annotated[AsyncSession, Depends(transaction, scope="function")]


class Wanted(BaseModel):
    """What a customer sends."""

    email: str
    article: str
    cents: int = Field(gt=0)


class Placed(BaseModel):
    """What is stored of it: the order's number, and the id of the job that charges it."""

    order: int
    job: str


class Shown(BaseModel):
    """An order as it is now."""

    order: int
    article: str
    paid_cents: int


@api.post("/orders", status_code=201)
async def place_order(wanted: Wanted, session: Transaction) -> Placed:
    """Store an order and the job that charges it: both, or neither."""
    order = Order(**wanted.model_dump())
    session.add(order)
    await session.flush()  # it has its number now
    job = await charge.within(session).later(order.id)
    if order.cents > MOST_CENTS:
        raise HTTPException(409, "nobody pays that much here")  # nothing is stored, nothing sent
    return Placed(order=order.id, job=job.id)


@api.get("/orders/{order_id}")
async def show_order(order_id: int, session: Transaction) -> Shown:
    """An order, and what was paid for it."""
    order = await session.get(Order, order_id)
    if order is None:
        raise HTTPException(404, "there is no such order")
    paid = select(func.coalesce(func.sum(Payment.cents), 0)).where(Payment.order_id == order_id)
    return Shown(order=order.id, article=order.article, paid_cents=await session.scalar(paid) or 0)
