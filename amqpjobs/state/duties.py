"""What the housekeeping of an app does. Changes when it does something else."""

from typing import TYPE_CHECKING

from amqpjobs.state.housekeeping import Duty
from amqpjobs.state.outbox.relay import BATCH
from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of
from amqpjobs.state.schedules.unstored import FiresUnstored

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


def duties_of(memory: "Memory") -> list[Duty]:
    """The duties of an app, those first whose delay is felt first."""
    return [*_schedules(memory), SendsOutbox(memory)]


def _schedules(memory: "Memory") -> list[Duty]:
    settings, registry = memory.client.runtime.settings, memory.client.runtime.registry
    if mechanism_of(settings) is not Mechanism.QUEUE:
        from amqpjobs.state.schedules.ticker import FiresSchedules

        return [FiresSchedules(memory)]
    return [FiresUnstored(memory.client)] if registry.schedules else []


class SendsOutbox:
    """Sends what is in the outbox.

    Args:
        memory: whose outbox.
    """

    name = "outbox"
    pause = 1.0

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """Send a batch."""
        return await self._memory.send() >= BATCH

    async def next_at(self) -> float | None:
        """Nothing in it waits for a time."""
        return None
