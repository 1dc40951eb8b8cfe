"""Starts no jobs while nobody reads the log: their lines would fill the memory, or be lost.

Changes when a worker does something else about a reader that does not read.
"""

import asyncio
import logging
import time

from amqpjobs.telemetry.log_stream import buffers, is_unread
from amqpjobs.worker.intake import Intake

log = logging.getLogger("amqpjobs.worker")

UNREAD = "log not read"
"""The state of such a worker, for probes."""

EVERY = 0.25
"""Seconds between two looks."""

SAID_EVERY = 60.0
"""Seconds between two lines about it: a reader that is only slow makes it come and go."""


async def hold_while_unread(intake: Intake) -> None:
    """Look at the log of this program again and again. Returns at once where lines are written by
    who logs them: then there is nothing to look at.

    Args:
        intake: where deliveries wait for their start.
    """
    said = -SAID_EVERY
    while buffers():
        await asyncio.sleep(EVERY)
        if not is_unread():
            continue
        intake.pause(UNREAD)
        began = time.monotonic()
        speaks = began - said >= SAID_EVERY
        if speaks:
            said = began
            log.warning("log not read, starting no jobs")
        try:
            while is_unread():  # noqa: ASYNC110 - a thread writes, and tells nobody
                await asyncio.sleep(EVERY)
        finally:
            intake.resume(UNREAD)
        if speaks:
            log.warning("log read again", extra={"after_s": round(time.monotonic() - began, 1)})
