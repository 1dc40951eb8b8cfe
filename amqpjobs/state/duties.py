"""What the housekeeping of an app does. Changes when it does something else."""

from typing import TYPE_CHECKING

from amqpjobs.state.housekeeping import Duty
from amqpjobs.state.outbox.relay import BATCH

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


def duties_of(memory: "Memory") -> list[Duty]:
    """The duties of an app, those first whose delay is felt first."""
    return [SendsOutbox(memory)]


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
