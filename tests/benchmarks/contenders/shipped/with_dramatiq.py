"""``dramatiq``: its own processes and threads, and its log without a line for each message."""

import os

import tally
from protocol import Order

os.environ["dramatiq_queue_prefetch"] = str(tally.PREFETCH)  # noqa: SIM112 - its own spelling

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker


class QuorumBroker(RabbitmqBroker):
    def _build_queue_arguments(self, queue_name: str) -> dict[str, object]:
        return super()._build_queue_arguments(queue_name) | {"x-queue-type": "quorum"}


broker = QuorumBroker(url=tally.URL, confirm_delivery=True)
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=tally.QUEUE, actor_name="handle")
def handle(order: dict[str, object]) -> None:
    tally.handle(Order.model_validate(order))
