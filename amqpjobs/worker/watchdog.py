"""The watchdog: a consumer must never be lost silently. Changes when another loss is noticed."""

import asyncio
import logging
from collections.abc import Sequence

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.jobs.context import Stopping

log = logging.getLogger("amqpjobs.worker")

WATCH_INTERVAL = 1.0
"""Seconds between two looks; it acts on the second look that finds the same."""


async def watch(link: Link, subscriptions: Sequence[Subscription], stopping: Stopping) -> None:
    """Compare what should be consuming with what is, until the worker is told to stop.

    Args:
        link: the consuming connection; while it is down, nothing is.
    """
    suspects: set[Subscription] = set()
    while not stopping.is_set():
        await asyncio.sleep(WATCH_INTERVAL)
        if link.wire is None:
            suspects.clear()
            continue
        lost = {s for s in subscriptions if s.starts and not _is_in_order(s)}
        for subscription in lost & suspects:
            log.warning("consumer missing, starting it again", extra={"queue": subscription.queue})
            subscription.restart()
        suspects = lost - suspects


def _is_in_order(subscription: Subscription) -> bool:
    """After a lost connection many of them wait for the broker at once, which is no loss."""
    return subscription.consuming or subscription.paused or subscription.starting
