"""Durable jobs for tests of the commands: one waits for an approval, and can be undone."""

from pydantic import BaseModel

from amqpjobs import App, Context, Reject, Retry

app = App("shop", retry=Retry(attempts=1))


class Approval(BaseModel):
    """Who has approved an order."""

    by: str


@app.job(queue="payments")
async def charge(order: int) -> str:
    """Done at once."""
    return f"payment {order}"


@app.job(queue="payments")
async def refund(payment: str) -> None:
    """Takes it back, if it can."""
    if payment == "payment 13":
        raise Reject("the card has expired")


@app.job(queue="orders", durable=True)
async def approved(ctx: Context, order: int) -> str:
    """Charges, and waits."""
    payment = await ctx.call("charge", charge, order, undo=refund)
    answer = await ctx.signal("approval", Approval)
    if answer.by == "nobody":
        raise Reject("not approved")
    return f"{payment} by {answer.by}"


@app.job(queue="orders")
async def plain() -> None:
    """No durable job."""
    raise Reject("no")
