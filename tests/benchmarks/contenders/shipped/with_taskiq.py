"""``taskiq worker``: its own processes, and a line for each task."""

import tally
from protocol import Order
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

broker = AioPikaBroker(
    tally.URL,
    qos=tally.PREFETCH,
    exchange=Exchange(name=f"{tally.QUEUE}.exchange"),
    task_queues=[Queue(name=tally.QUEUE)],
    dead_letter_queue=Queue(name=f"{tally.QUEUE}.dead"),
)


@broker.task(task_name="handle")
async def handle(order: Order) -> None:
    tally.handle(order)
