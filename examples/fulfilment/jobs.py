"""The jobs: one that is durable, and those that it calls, and by which it is taken back."""

from datetime import timedelta

from pydantic import BaseModel, Field

from amqpjobs import App, Context, Reject, Retry, Undo
from amqpjobs.errors import SignalTimeout
from examples.fulfilment.books import enter, lamps_left, strike

app = App("fulfilment", retry=Retry(attempts=3, first=1))

NEEDS_APPROVAL_ABOVE = 100_000
"""Cents."""

SHIPS_TO = {"DE", "FR", "PL"}


class Order(BaseModel):
    """What a customer has ordered: a lamp."""

    number: int
    cents: int = Field(gt=0)
    country: str = "DE"


class Approval(BaseModel):
    """What a person says about a large order."""

    by: str
    granted: bool


class Receipt(BaseModel):
    """What has become of an order."""

    order: int
    payment: str
    parcel: str


@app.job(queue="payments", timeout=30)
async def charge(order: Order) -> str:
    """Take the money.

    Returns:
        The key of the payment.
    """
    return await enter("payments", f"payment-{order.number}", f"{order.cents} cents")


@app.job(queue="payments", timeout=30, retry=Retry(attempts=20))
async def refund(payment: str) -> None:
    """Give the money back."""
    await strike("payments", payment)


async def reserve(order: Order) -> str:
    """Put a lamp aside. A step, and no job of its own: it takes no time."""
    if await lamps_left() < 1:
        raise Reject("no lamp is left")
    return await enter("stock", f"lamp-{order.number}", "reserved")


@app.job(queue="stock", timeout=30, retry=Retry(attempts=20))
async def release(reservation: str) -> None:
    """Put the lamp back."""
    await strike("stock", reservation)


@app.job(queue="parcels", timeout=30)
async def ship(order: Order, reservation: str) -> str:
    """Hand the parcel over. That cannot be taken back, so it comes last.

    Returns:
        The key of the parcel.
    """
    if order.country not in SHIPS_TO:
        raise Reject(f"the carrier does not go to {order.country}")
    return await enter("parcels", f"parcel-{order.number}", reservation)


@app.job(queue="orders", durable=True, keep_result=True)
async def fulfil(ctx: Context, order: Order) -> Receipt:
    """Charge, reserve and ship; or take back what was done, if a part of it fails for good."""
    if order.cents > NEEDS_APPROVAL_ABOVE:
        await approved(ctx)
    payment = await ctx.call("charge", charge, order, undo=refund)
    reservation = await ctx.step("reserve", reserve, order, undo=release)
    parcel = await ctx.call("ship", ship, order, reservation)
    return Receipt(order=order.number, payment=payment, parcel=parcel)


async def approved(ctx: Context) -> None:
    """Wait until a person has approved. Meanwhile the job is a row in the store."""
    try:
        approval = await ctx.signal("approval", Approval, timeout=timedelta(days=2))
    except SignalTimeout:
        raise Undo("nobody has approved it in two days") from None
    if not approval.granted:
        raise Undo(f"refused by {approval.by}")
