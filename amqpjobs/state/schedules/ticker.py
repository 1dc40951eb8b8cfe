"""The duty that fires the schedules of an app, where there is a store.

Changes when the housekeeping does something else for schedules.
"""

import logging
import time
from typing import TYPE_CHECKING

from amqpjobs.jobs.clock import MACHINE
from amqpjobs.state.schedules import firing, in_code, looking
from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of
from amqpjobs.state.schedules.turn_holder import TurnHolder

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

log = logging.getLogger("amqpjobs.schedules")

LOOK = 1.0
"""Seconds between two looks, when nothing is due before: others may have put a schedule."""

LEAST = 0.02
"""Seconds between two looks at least."""

PRUNE = 600.0
"""Seconds between two times that what is old is forgotten."""


class FiresSchedules:
    """Fires what is due: a tick and its job in one transaction, in any number of processes.

    Args:
        memory: of the app.
    """

    name = "schedules"

    def __init__(self, memory: "Memory") -> None:
        self.pause = LOOK
        self._memory = memory
        runtime = memory.client.runtime
        self._jobs = runtime.registry.jobs
        self._machine = runtime.clock is MACHINE
        self._coded: list[in_code.Coded] | None = None
        self._release = ""
        self._unreadable: dict[str, None] = {}
        # By the monotonic clock: the time itself is the database's.
        self._look_at = self._sync_at = self._prune_at = 0.0
        alone = mechanism_of(runtime.settings) is Mechanism.ROWS
        self._turn = None if alone else TurnHolder(memory.client)
        self._took: float | None = None
        self._taken_at: float | None = None

    def __repr__(self) -> str:
        return f"<FiresSchedules of {self._memory.app}>"

    async def turn(self) -> bool:
        """Fire what is due.

        Raises:
            StoreUnavailable, ConfigurationError: the store cannot be used.
            PublishError, BrokerUnavailable: RabbitMQ is away, where a queue says whose turn it is.
        """
        told = await self._memory.ended.tell()
        now = time.monotonic()
        if self._machine and now < self._look_at and not self._memory.schedules_changed:
            self.pause = max(LEAST, self._look_at - now)  # woken for something else
            return told
        self._memory.schedules_changed = False
        changed = await self._sync(now)
        missed_from = None
        if self._turn is not None:
            if not await self._is_our_turn(self._turn):
                self._rest(LOOK)
                return changed or told
            missed_from = self._taken_at
        fired = await self._fire(missed_from)
        await self._prune(now)
        return changed or told or fired

    async def _fire(self, missed_from: float | None) -> bool:
        """Whether there may be more."""
        store = await self._memory.store()
        fired = await store.run(
            firing.fire_due, self._memory.app, list(self._jobs), store.now, missed_from,
            list(self._unreadable),
        )  # fmt: skip
        for name in fired.unreadable:
            self._unreadable[name] = None
            log.warning("schedule cannot be read here", extra={"schedule": name})
        if fired.sent:
            self._memory.nudge()
        self._rest(LOOK if fired.next_in is None else fired.next_in)
        return fired.schedules > 0 or fired.sent > 0

    def _rest(self, seconds: float) -> None:
        self.pause = min(LOOK, max(LEAST, seconds))
        self._look_at = time.monotonic() + self.pause

    async def _is_our_turn(self, turn: TurnHolder) -> bool:
        """What was due before it was, another machine may have sent."""
        if not await turn.holds():
            self._took = self._taken_at = None
            return False
        if self._took != turn.since:
            self._taken_at = await (await self._memory.store()).time()
            self._took = turn.since
        return True

    async def _sync(self, now: float) -> bool:
        """Have the rows say what the code says; whether that changed anything."""
        if self._coded is not None and (not self._machine or now < self._sync_at):
            return False
        jobs = list(self._jobs)
        if self._coded is None:
            coded = await in_code.coded_of(self._memory.client)
            self._release = in_code.fingerprint_of(coded, jobs)
        else:
            coded = self._coded
        store = await self._memory.store()
        changes = await store.run(
            in_code.sync, self._memory.app, self._release, coded, jobs, store.now
        )
        self._coded, self._sync_at = coded, now + in_code.SEEN
        for schedules, words in ((changes.put, "put"), (changes.retired, "retired")):
            if schedules:
                log.info("schedules of the code %s", words, extra={"schedules": list(schedules)})
        return bool(changes.put or changes.retired)

    async def _prune(self, now: float) -> None:
        if now >= self._prune_at:
            store = await self._memory.store()
            await store.run(looking.prune, self._memory.app, store.now)
            self._prune_at = now + PRUNE

    async def next_at(self) -> float | None:
        """When the next schedule is due."""
        store = await self._memory.store()
        return await store.run(firing.next_due, self._memory.app, list(self._jobs))
