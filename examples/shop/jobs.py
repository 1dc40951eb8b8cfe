"""The shop's jobs: what happens to an order when it is stored."""

import os

from anyio import Path
from sqlalchemy.ext.asyncio import AsyncSession

from amqpjobs import App, Context
from examples.shop.database import Base, Order, Payment, Sessions, engine, make_tables

app = App("shop")
app.outbox(Base.metadata, bind=engine)

MAILS = Path(os.environ.get("SHOP_MAILS", "mails"))
"""A real shop would send them."""


@app.on_start
async def begin() -> None:
    """In each worker, before its first job."""
    await make_tables()


@app.on_stop
async def end() -> None:
    """In each worker, after its last job."""
    await engine.dispose()


@app.job(queue="receipts", timeout=30)
async def receipt(ctx: Context, order_id: int) -> None:
    """Send the receipt of an order. A mail is in no transaction: should the worker be killed here,
    it is sent twice. So each has a name of its own, and a second one replaces the first."""
    async with Sessions() as session:
        order = await session.get_one(Order, order_id)
    await MAILS.mkdir(parents=True, exist_ok=True)
    text = f"To: {order.email}\n\nThank you for your order of {order.article}.\n"
    await (MAILS / f"order-{order_id}.txt").write_text(text)
    ctx.log.info("receipt sent", extra={"order": order_id})


@app.job(queue="payments", once=Sessions, timeout=30)
async def charge(ctx: Context, session: AsyncSession, order_id: int) -> None:
    """Take the money for an order, and send the receipt: both, or neither, and never twice."""
    order = await session.get_one(Order, order_id)
    session.add(Payment(order_id=order.id, cents=order.cents))
    await receipt.later(order_id)
    ctx.log.info("order is paid", extra={"order": order_id})
