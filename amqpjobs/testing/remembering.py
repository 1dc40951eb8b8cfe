"""What the housekeeping of a tested app would do, done when the test says so.

Nothing of SQLAlchemy is imported for an app that remembers nothing. Changes when a test may see, or
move, something else of the store.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.message.message import Message
from amqpjobs.state.memory import Memory, memory_of
from amqpjobs.state.needs import needs_store

if TYPE_CHECKING:
    from amqpjobs.client.client import HasClient
    from amqpjobs.jobs.durable.status import StepStatus
    from amqpjobs.jobs.schedule.status import TickRecord
    from amqpjobs.state.housekeeping import Housekeeping


class Remembering:
    """The memory of a tested app.

    Args:
        app: which.
    """

    def __init__(self, app: "HasClient") -> None:
        self._app = app
        self._housekeeping: Housekeeping | None = None
        self._memory: Memory | None = None
        self._wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return "<Remembering>"

    def begin(self, wake: Callable[[], None]) -> None:
        """From now on nothing is sent behind the test's back.

        Args:
            wake: called in place of that, from whatever thread.
        """
        self._memory, self._wake = memory_of(self._app.client), wake
        self._memory.steps = True
        self._memory.add_wake(wake)

    def end(self) -> None:
        """The app is put back."""
        if self._memory is not None and self._wake is not None:
            self._memory.remove_wake(self._wake)
            self._memory.steps = False

    def _kept(self) -> "Housekeeping | None":
        """None while nothing is remembered."""
        memory = self._memory
        if self._housekeeping is None and memory is not None:
            registry = self._app.client.runtime.registry
            if not (memory.used or registry.schedules or needs_store(registry)):
                return None
            from amqpjobs.state.duties import duties_of
            from amqpjobs.state.housekeeping import Housekeeping

            self._housekeeping = Housekeeping(memory, duties_of(memory))
        return self._housekeeping

    async def until_done(self) -> bool:
        """Do all that is to be done now; whether anything was."""
        housekeeping = self._kept()
        return housekeeping is not None and await housekeeping.until_done()

    async def send(self) -> None:
        """Send the outbox, for a caller that waits."""
        try:
            await self.until_done()
        except AmqpJobsError:
            return  # the caller's own time ends its waiting, and `run_until_idle` tells why

    async def next_at(self) -> float | None:
        """When there is something to be done, by the test's clock."""
        housekeeping = self._kept()
        return None if housekeeping is None else await housekeeping.next_at()

    async def outbox(self) -> list[Message[Any]]:
        """What is to be sent."""
        if self._kept() is None or self._memory is None:
            return []
        from amqpjobs.state.outbox.looking import messages_in

        return await messages_in(self._memory)

    async def ticks(self, schedule: str | None) -> "list[TickRecord]":
        """The ticks of schedules."""
        if self._kept() is None or self._memory is None:
            return []
        from amqpjobs.state.schedules.looking import ticks_of

        store = await self._memory.store()
        return await store.run(ticks_of, self._memory.app, schedule, None)

    async def steps(self, job_id: str) -> "list[StepStatus]":
        """The steps of a durable job."""
        if self._kept() is None or self._memory is None:
            return []
        from amqpjobs.state.durable.looking import look

        found = await look(self._memory, job_id)
        return [] if found is None else list(found.steps)
