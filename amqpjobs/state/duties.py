"""What the housekeeping of an app does. Changes when it does something else."""

from typing import TYPE_CHECKING

from amqpjobs.state.durable.duties import PrunesDurable, WakesDurable
from amqpjobs.state.durable.stragglers import RepeatsStragglers
from amqpjobs.state.durable.supervising import Supervises
from amqpjobs.state.housekeeping import Duty
from amqpjobs.state.inbox.rows import PRUNE_BATCH, prune
from amqpjobs.state.limits.duties import FreesSlots, SendsDue
from amqpjobs.state.outbox.places import Bound, engine_of
from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of
from amqpjobs.state.schedules.unstored import FiresUnstored
from amqpjobs.telemetry.metrics.instruments import meters

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


def duties_of(memory: "Memory") -> list[Duty]:
    """The duties of an app, those first whose delay is felt first."""
    duties = [*_schedules(memory), SendsOutbox(memory)]
    if any(job.exclusion is not None for job in memory.client.runtime.registry.jobs.values()):
        duties = [SendsDue(memory), FreesSlots(memory), *duties]
    wakes, prunes = WakesDurable(memory), PrunesDurable(memory)
    if any(job.durable for job in memory.client.runtime.registry.jobs.values()):
        duties = [wakes, RepeatsStragglers(memory), *duties, Supervises(memory), prunes]
    else:
        duties += [WithPipelines(memory, wakes), WithPipelines(memory, prunes)]
    if memory.client.runtime.registry.transactional:
        duties.append(PrunesInbox(memory))
    return duties


def _schedules(memory: "Memory") -> list[Duty]:
    settings, registry = memory.client.runtime.settings, memory.client.runtime.registry
    if mechanism_of(settings) is not Mechanism.QUEUE:
        from amqpjobs.state.schedules.ticker import FiresSchedules

        return [FiresSchedules(memory)]
    return [FiresUnstored(memory.client)] if registry.schedules else []


def measures_of(memory: "Memory") -> list[Duty]:
    """What is looked at for metrics alone; nothing where nobody collects them."""
    if meters() is None:
        return []
    from amqpjobs.state.measuring import MeasuresDurable, MeasuresOutbox

    outbox = MeasuresOutbox(memory)
    durable = any(job.durable for job in memory.client.runtime.registry.jobs.values())
    return [outbox, MeasuresDurable(memory)] if durable else [outbox]


class WithPipelines:
    """A duty for durable jobs, in an app that declares none: from when this process has come across
    a pipeline, which is one.

    Args:
        memory: of the app.
        duty: to be done.
    """

    nudged = False

    def __init__(self, memory: "Memory", duty: Duty) -> None:
        self._registry = memory.client.runtime.registry
        self._duty = duty
        self.name, self.pause = duty.name, duty.pause

    async def turn(self) -> bool:
        """See the duty."""
        return self._registry.has_pipelines and await self._duty.turn()

    async def next_at(self) -> float | None:
        """See the duty."""
        return await self._duty.next_at() if self._registry.has_pipelines else None


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
        """Send a batch. More may have been written meanwhile."""
        return await self._memory.send() > 0

    async def next_at(self) -> float | None:
        """Nothing in it waits for a time."""
        return None


class PrunesInbox:
    """Forgets what was done long ago.

    Args:
        memory: whose inbox.
    """

    name = "inbox"
    pause = 300.0

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory

    async def turn(self) -> bool:
        """Forget a batch in each database that jobs with ``once=`` use."""
        table, app = self._memory.outbox.inbox, self._memory.app
        ttl = self._memory.client.runtime.settings.inbox_ttl
        jobs = self._memory.client.runtime.registry.jobs.values()
        more = False
        for sessions in {job.once for job in jobs if job.once is not None}:
            place = Bound(engine_of(sessions()))
            more |= await place.run(prune, table, app, place.now, ttl) >= PRUNE_BATCH
        return more

    async def next_at(self) -> float | None:
        """By the database's time, which tests do not move."""
        return None
