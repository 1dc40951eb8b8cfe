"""A handler of events that runs in a process, which imports it from here."""

from amqpjobs import App, Context, Exchange

app = App("events")

ORDERS = Exchange("orders")


@app.on(ORDERS, "cpu", queue="q", cpu=True)
def cpu(ctx: Context, event: int) -> str:
    assert ctx.event is not None
    return f"{ctx.event.id} {ctx.event.routing_key}"
