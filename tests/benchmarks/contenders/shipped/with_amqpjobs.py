"""``amqpjobs consume``: nothing is set but prefetch and concurrency."""

import tally
from protocol import Order

from amqpjobs import App, Queue

app = App("bench")


@app.job(queue=Queue(tally.QUEUE))
async def handle(order: Order) -> None:
    tally.handle(order)
