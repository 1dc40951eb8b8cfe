"""Dramatiq on RabbitMQ (pika, threads).

Levelled: quorum queues (it declares classic ones and has no option, so its argument builder is
overridden), prefetch (twice the number of threads by default), publisher confirms (off by default).
Not levelled: the handler runs in its 8 default threads, not in one per prefetched message, since
hundreds of threads only slow it down. It does not know pydantic: the handler validates.
A publish blocks until its confirm, so `publish` runs in 16 threads, each with its own connection.
"""

import os
import threading
import time

from protocol import LINGER, Arguments, Order, Tally, arguments, report, threaded

PUBLISHING_THREADS = 16


def main(args: Arguments) -> None:
    # Dramatiq reads its variable, which it spells in small letters, when it is imported.
    os.environ["dramatiq_queue_prefetch"] = str(args.prefetch)  # noqa: SIM112
    import dramatiq
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    class QuorumBroker(RabbitmqBroker):
        def _build_queue_arguments(self, queue_name: str) -> dict[str, object]:
            return super()._build_queue_arguments(queue_name) | {"x-queue-type": "quorum"}

    class CountAcks(dramatiq.Middleware):
        def after_ack(self, broker: object, message: object) -> None:
            with lock:
                tally.settle()

    lock = threading.Lock()
    tally = Tally(args.count, threading.Event())
    broker = QuorumBroker(url=args.url, confirm_delivery=True)
    dramatiq.set_broker(broker)

    @dramatiq.actor(queue_name=args.queue, actor_name="handle")
    def handle(order: dict[str, object]) -> None:
        valid = Order.model_validate(order)
        with lock:
            tally.handle(valid)

    def publish(one: Order) -> None:
        handle.send(one.model_dump(mode="json"))

    if args.work == "consume":
        broker.add_middleware(CountAcks())
        worker = dramatiq.Worker(broker, queues={args.queue})
        worker.start()
        tally.done.wait()
        time.sleep(LINGER)
        tally.report()
        worker.stop()
    else:
        threads = 1 if args.work == "sequential" else PUBLISHING_THREADS
        report(threaded(publish, args.count, threads), args.count)
    broker.close()


if __name__ == "__main__":
    main(arguments())
