"""Billing: writes an invoice for each order that is placed anywhere, and collects the money.

It imports nothing of the shop. The exchange is the shop's, and the event is JSON.
"""

import os

from anyio import Path
from pydantic import BaseModel

from amqpjobs import App, Context, Exchange, Reject, Retry

INVOICES = Exchange("invoices", type="topic")
ORDERS = Exchange("orders", type="topic", foreign=True)
"""The shop declares it. Billing waits for it, if it starts first."""

app = App("billing", retry=Retry(attempts=5, first=1))
app.publishes(INVOICES, "invoice.*")

DRAWER = Path(os.environ.get("EVENTS_INVOICES", "invoices"))


class Placed(BaseModel):
    """What billing needs to know of an order; the event may have more fields."""

    number: int
    cents: int
    country: str = "DE"


async def write(order: Placed) -> str:
    """Write an invoice. A second one for the same order replaces the first."""
    await DRAWER.mkdir(parents=True, exist_ok=True)
    await (DRAWER / f"{order.number}.txt").write_text(f"{order.cents} cents\n")
    return f"{order.number}.txt"


@app.job(queue="billing.undo", retry=Retry(attempts=20))
async def void(order: Placed) -> None:
    """Undo an invoice, and say so."""
    await (DRAWER / f"{order.number}.txt").rename(DRAWER / f"{order.number}.void.txt")
    await app.publish(INVOICES, "invoice.refused", {"order": order.number})


@app.job(queue="billing.bank", timeout=30)
async def collect(ctx: Context, order: Placed) -> None:
    """Collect the money. The bank does not answer the first time, so this is retried."""
    if ctx.attempt == 1:
        raise ConnectionError("the bank does not answer")
    if order.country == "XX":
        raise Reject("the bank does not go to this country")


async def tell(order: Placed) -> None:
    """Tell everyone who listens. If the step runs twice, so does this: the shop counts it once."""
    await app.publish(INVOICES, "invoice.paid", {"order": order.number}, id=f"paid-{order.number}")


@app.on(ORDERS, "order.placed", queue="billing.orders", durable=True)
async def bill(ctx: Context, order: Placed) -> None:
    """Bill an order, or void the invoice if the bank refuses."""
    await ctx.step("write", write, order, undo=void.message(order))
    await ctx.call("collect", collect, order)
    await ctx.step("tell", tell, order)
