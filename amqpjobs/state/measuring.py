"""Metrics of what looks after the store, of the outbox and of durable jobs: measured now and then,
read when asked.

Made only where a meter provider is set up. Changes when a metric of the store does.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

from amqpjobs.state.durable.looking import open_by_state
from amqpjobs.state.outbox.looking import held_by
from amqpjobs.telemetry import conventions as names
from amqpjobs.telemetry.metrics.aggregates import Attributes
from amqpjobs.telemetry.metrics.instruments import Meters, Reading

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.outbox.rows import Held


class MeasuresOutbox:
    """Looks how much is in the outbox: a duty of the housekeeping.

    Args:
        memory: whose outbox.
    """

    name = "outbox measures"
    pause = 15.0

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._held: Held | None = None
        self._at = 0.0

    async def turn(self) -> bool:
        """Look once."""
        self._held = None  # what was true before is not told any more, should the look fail
        self._held, self._at = await held_by(self._memory), time.monotonic()
        return False

    async def next_at(self) -> float | None:
        """Nothing waits for a time."""
        return None

    def readings(self) -> dict[names.Metric, Reading]:
        """What can be read off it, by another thread too."""
        attributes: Attributes = {names.APP: self._memory.app}

        def age() -> Iterable[tuple[float, Attributes]]:
            held = self._held
            if held is not None:
                waited = 0.0 if held.oldest is None else held.oldest + time.monotonic() - self._at
                yield waited, attributes

        def count(name: str) -> Reading:
            def read() -> Iterable[tuple[float, Attributes]]:
                held = self._held
                return [] if held is None else [(getattr(held, name), attributes)]

            return read

        return {
            names.OUTBOX_OPEN: count("open"),
            names.OUTBOX_FAILED: count("failed"),
            names.OUTBOX_AGE: age,
        }


class MeasuresDurable:
    """Looks how many durable jobs have not ended, by state: a duty of the housekeeping.

    Args:
        memory: whose durable jobs.
    """

    name = "durable measures"
    pause = 15.0

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._counts: dict[str, int] | None = None

    async def turn(self) -> bool:
        """Look once."""
        self._counts = None  # as of the outbox
        store = await self._memory.store()
        self._counts = await store.run(open_by_state, self._memory.app)
        return False

    async def next_at(self) -> float | None:
        """Nothing waits for a time."""
        return None

    def readings(self) -> dict[names.Metric, Reading]:
        """What can be read off it, by another thread too."""

        def read() -> Iterable[tuple[float, Attributes]]:
            counts = self._counts or {}
            app = self._memory.app
            return [(n, {names.APP: app, names.DURABLE_STATE: s}) for s, n in counts.items()]

        return {names.DURABLE_JOBS: read}


class DutyState(Protocol):
    """How a duty is: see `amqpjobs.state.housekeeping.State`."""

    errors: int
    last: float


Measures: TypeAlias = MeasuresOutbox | MeasuresDurable


@contextmanager
def measured(
    meters: Meters, states: Mapping[str, DutyState], measures: Iterable[Measures]
) -> Iterator[None]:
    """Let the housekeeping be read inside of the block.

    Args:
        meters: where.
        states: of its duties, by name.
        measures: the duties that measure something.
    """

    def ages() -> Iterable[tuple[float, Attributes]]:
        now = time.monotonic()
        return [(now - state.last, {names.DUTY: name}) for name, state in states.items()]

    def errors() -> Iterable[tuple[float, Attributes]]:
        return [(state.errors, {names.DUTY: name}) for name, state in states.items()]

    sources: dict[names.Metric, Reading] = {
        names.HOUSEKEEPING_AGE: ages,
        names.HOUSEKEEPING_ERRORS: errors,
    }
    for each in measures:
        sources |= each.readings()
    for metric, source in sources.items():
        meters.readings[metric].add(source)
    try:
        yield
    finally:
        for metric, source in sources.items():
            meters.readings[metric].remove(source)
