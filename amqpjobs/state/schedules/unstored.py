"""The duty that fires the schedules of an app without a store: usually once, nothing made up for.

Who has the exclusive queue computes the times by its own clock, and publishes. Nothing here imports
SQLAlchemy. Changes when less is lost where nothing is remembered.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from amqpjobs.client.prepared import publish_prepared
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.message.tick import Tick
from amqpjobs.jobs.schedule.declared import Declared
from amqpjobs.jobs.schedule.dues import dues_between, last_between, next_after, sent_at
from amqpjobs.jobs.schedule.missed import MOST, ON_TIME
from amqpjobs.jobs.schedule.schedule import zone_name_of
from amqpjobs.state.schedules.messages import message_for, template_for
from amqpjobs.state.schedules.turn_holder import TurnHolder

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.client.prepared import Prepared

log = logging.getLogger("amqpjobs.schedules")

LOOK = 1.0
"""Seconds between two looks, when nothing is due before."""

LEAST = 0.02
"""Seconds between two looks at least."""

LONGEST_GAP = 366 * 86_400
"""Seconds that are looked through for the time before the first."""


@dataclass(slots=True)
class _Next:
    """A schedule, and what is known of it here.

    Attributes:
        after: all times until then are done with.
        due: the next one; None for never.
        previous: the last time that was sent from here.
    """

    declared: Declared
    after: float
    due: float | None
    previous: float | None = None


class FiresUnstored:
    """Fires what is due while this process has the queue.

    Args:
        client: whose schedules.
    """

    name = "schedules"

    def __init__(self, client: "Client") -> None:
        self.pause = LOOK
        self._client = client
        self._registry = client.runtime.registry
        self._time = client.runtime.clock.time
        self._turn = TurnHolder(client)
        self._since = 0.0
        self._known: list[_Next] = []

    def __repr__(self) -> str:
        return f"<FiresUnstored of {self._registry.name}>"

    async def turn(self) -> bool:
        """Publish what is due.

        Raises:
            PublishError, BrokerUnavailable: RabbitMQ is away; what was due is lost.
            NotPermitted: the user may not declare the queue.
        """
        self.pause = LOOK
        if not await self._turn.holds():
            return False
        now = self._time()
        if self._since != self._turn.since:
            self._since = self._turn.since
            self._known = [
                _Next(each, now, next_after(each.schedule, now))
                for each in self._registry.schedules.values()
            ]
            log.info("schedules fire from this process", extra={"schedules": len(self._known)})
        due = [each for each in self._known if each.due is not None and each.due <= now]
        sent = 0
        for each in due:
            sent += await self._fire(each, now)
        self._rest()
        return sent > 0

    def _rest(self) -> None:
        times = [each.due for each in self._known if each.due is not None]
        if times:
            self.pause = min(LOOK, max(LEAST, min(times) - self._time()))

    async def _fire(self, schedule: _Next, now: float) -> int:
        """How many jobs were sent. Each time is tried once."""
        declared = schedule.declared
        when = declared.schedule
        dues = dues_between(when, max(schedule.after, now - ON_TIME), now, MOST)
        schedule.after, schedule.due = now, next_after(when, now)
        if not dues:
            return 0
        job = self._registry.jobs[declared.job]
        template = await template_for(self._client, Job(job).message())
        if schedule.previous is None:
            schedule.previous = last_between(when, dues[0] - LONGEST_GAP, dues[0] - 1)
        messages: list[Prepared] = []
        for due in dues:
            tick = Tick(declared.name, due, schedule.previous, "cron", zone_name_of(when))
            at = sent_at(when, declared.name, due)
            messages.append(message_for(template, self._registry.name, tick, now, at))
            schedule.previous = due
        publisher, timeout = await self._client.publisher(), self._client.runtime.settings
        fates = await publish_prepared(publisher, messages, timeout.publish_timeout)
        for error in filter(None, fates):
            extra = {"schedule": declared.name, "error": str(error)}
            log.error("job of a schedule not sent", extra=extra)
        return fates.count(None)

    async def next_at(self) -> float | None:
        """Tests have a store."""
        return None
