"""``faststream run``: its own log, with a line for each message received and each processed."""

import tally
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from protocol import Order

broker = RabbitBroker(tally.URL, default_channel=Channel(prefetch_count=tally.PREFETCH))
queue = RabbitQueue(tally.QUEUE, queue_type=QueueType.QUORUM, durable=True, declare=False)
app = FastStream(broker)


@broker.subscriber(queue, ack_policy=AckPolicy.NACK_ON_ERROR)
async def handle(order: Order) -> None:
    tally.handle(order)
