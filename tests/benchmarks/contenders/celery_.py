"""Celery on RabbitMQ (py-amqp).

Levelled: `acks_late` (early acks by default), a quorum queue, prefetch through the multiplier,
publisher confirms (off by default), `pydantic=True` on the task. Switched off because they cost it
and nobody uses them here: results, events, gossip, mingle, remote control, the log line per task.
The pool is `solo`: one process, and the fastest of its pools for a handler that does nothing. Its
event loop then holds the last acks back until it next wakes up, up to 10 s later, so a timer wakes
it every 10 ms; with it the stall is not counted against Celery.
A publish blocks until its confirm, so `publish` runs in 16 threads with a connection each.
"""

import contextlib
import os
import signal
import threading
import warnings
from typing import Any

import kombu
from celery import Celery, signals
from kombu.message import Message
from protocol import LINGER, Arguments, Order, Tally, arguments, report, threaded

PUBLISHING_THREADS = 16


def make_app(args: Arguments) -> Celery:
    """An app with one quorum queue and equal durability."""
    app = Celery("bench", broker=args.url)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_pool_limit=PUBLISHING_THREADS,
        broker_transport_options={"confirm_publish": True},
        task_acks_late=True,
        task_default_queue=args.queue,
        task_default_queue_type="quorum",
        task_queues=[
            kombu.Queue(
                args.queue,
                kombu.Exchange(""),
                routing_key=args.queue,
                queue_arguments={"x-queue-type": "quorum"},
            )
        ],
        task_default_exchange="",
        task_default_routing_key=args.queue,
        task_ignore_result=True,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=args.prefetch,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


def count_acks(tally: Tally) -> None:
    """Call `tally.settle` after every ack, and stop the worker after the last one."""
    ack = Message.ack

    def counted(self: Message, multiple: bool = False) -> None:
        ack(self, multiple)
        tally.settle()
        if tally.settled == tally.total:
            threading.Timer(LINGER, os.kill, (os.getpid(), signal.SIGTERM)).start()

    Message.ack = counted


def keep_awake(sender: Any, **_: object) -> None:
    """Wake the worker's event loop every 10 ms (see the module's docstring)."""
    sender.hub.timer.call_repeatedly(0.01, int)


def main(args: Arguments) -> None:
    app = make_app(args)
    tally = Tally(args.count, threading.Event())

    @app.task(name="handle", pydantic=True)
    def handle(order: Order) -> None:
        tally.handle(order)

    def publish(one: Order) -> None:
        handle.delay(one.model_dump(mode="json"))

    if args.work == "consume":
        warnings.simplefilter("ignore")  # it warns when root runs it
        count_acks(tally)
        signals.worker_ready.connect(keep_awake)
        worker = app.Worker(
            pool="solo",
            concurrency=1,
            loglevel="ERROR",
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
            quiet=True,
        )
        with contextlib.suppress(SystemExit):
            worker.start()
        tally.report()
        return
    threads = 1 if args.work == "sequential" else PUBLISHING_THREADS
    report(threaded(publish, args.count, threads), args.count)


if __name__ == "__main__":
    main(arguments())
