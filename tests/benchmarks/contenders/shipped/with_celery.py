"""``celery worker``: its own pool of processes, and its log without a line for each task."""

import tally
from celery_ import make_app
from protocol import Arguments, Order

app = make_app(Arguments(tally.URL, tally.QUEUE, "consume", 0, tally.PREFETCH, False))


@app.task(name="handle", pydantic=True)
def handle(order: Order) -> None:
    tally.handle(order)
