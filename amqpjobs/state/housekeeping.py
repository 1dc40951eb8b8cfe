"""The one loop of a process that looks after the store: sends what a crash left in the outbox,
fires schedules, frees what nobody holds any more, and forgets what is old.

Any number of processes run it; rows decide who does what. Changes when running the duties does;
what they are is in `amqpjobs.state.duties`.
"""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Protocol

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.memory import Memory
from amqpjobs.telemetry.metrics.instruments import meters

log = logging.getLogger("amqpjobs.housekeeping")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds after an error before a duty is tried again; they double."""

JITTER = 0.2
"""Of each pause, at random, so that processes do not look all at once."""

LEISURE = 10.0
"""Seconds of a duty's pause, beyond which a commit is no reason to do it at once."""

LATE = 120.0
"""Seconds without a turn of a duty, from which on the housekeeping is not well."""


class Duty(Protocol):
    """One thing that the housekeeping does.

    Attributes:
        name: for people: ``outbox``, ``schedules``.
        pause: seconds between two turns, when nothing was to be done.

    One that has nothing to do with what was just committed says so by ``nudged = False``.
    """

    name: str
    pause: float

    async def turn(self) -> bool:
        """Do some of what is to be done, for a second at most.

        Returns:
            Whether there may be more to do at once.

        Raises:
            AmqpJobsError: the store or RabbitMQ is away; it is tried again later.
        """
        ...

    async def next_at(self) -> float | None:
        """When there is something to do by the clock, in seconds since the epoch, for tests, whose
        clock stands still; None for nothing."""
        ...


@dataclass(slots=True)
class State:
    """How a duty is.

    Attributes:
        due: when its next turn is, by the monotonic clock.
        errors: turns that have failed, in all.
        problem: why the last turn failed; None if it did not.
        pause: seconds before the next one after an error.
        woken: whether there was a commit since its last turn began.
        last: when a turn last succeeded, by the monotonic clock.
    """

    due: float
    last: float
    errors: int = 0
    problem: str | None = None
    pause: float = FIRST_PAUSE
    woken: bool = False


class Housekeeping:
    """Runs the duties of an app, one after the other.

    Args:
        memory: of the app.
        duties: to be done.
    """

    def __init__(self, memory: Memory, duties: Sequence[Duty]) -> None:
        self._memory = memory
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        now = time.monotonic()
        self._states: dict[Duty, State] = {duty: State(now, now) for duty in duties}

    def __repr__(self) -> str:
        return f"<Housekeeping: {', '.join(duty.name for duty in self._states)}>"

    @property
    def states(self) -> dict[str, State]:
        """How its duties are, by name."""
        return {duty.name: state for duty, state in self._states.items()}

    @property
    def age(self) -> float:
        """Seconds since the duty that is the furthest behind last succeeded."""
        now = time.monotonic()
        return max((now - state.last for state in self._states.values()), default=0.0)

    @property
    def problem(self) -> str | None:
        """What is wrong with it, in words; None if nothing is."""
        for duty, state in self._states.items():
            if state.problem is not None and time.monotonic() - state.last > LATE:
                return f"{duty.name}: {state.problem}"
        return None

    @property
    def beside(self) -> str | None:
        """The same on one line, for the state of a process that does its work all the same."""
        problem = self.problem
        return None if problem is None else " ".join(f"housekeeping has to wait: {problem}".split())

    def wake(self) -> None:
        """Do soon what does not have time. From any thread."""
        with suppress(RuntimeError):  # the loop was closed under it, and a commit is no error
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for duty, state in self._states.items():
            asked = duty.pause <= LEISURE and getattr(duty, "nudged", True)
            if state.problem is None and asked:
                state.due, state.woken = 0.0, True
        self._woken.set()

    async def run(self) -> None:
        """Do the duties until cancelled."""
        self._memory.add_wake(self.wake)
        try:
            with self._measured():
                await self._run()
        finally:
            self._memory.remove_wake(self.wake)

    def _measured(self) -> AbstractContextManager[None]:
        """Nothing where nobody looks."""
        found = meters()
        if found is None:
            return nullcontext()
        from amqpjobs.state.measuring import Measures, measured

        return measured(found, self.states, [d for d in self._states if isinstance(d, Measures)])

    async def _run(self) -> None:
        for state in self._states.values():  # not all processes of a deployment at once
            state.due = time.monotonic() + random.random() * FIRST_PAUSE  # noqa: S311 - not a secret
        while True:
            await self._rest()
            for duty, state in self._states.items():
                if state.due <= time.monotonic():
                    await self._turn(duty, state)

    async def _rest(self) -> None:
        """Until the next duty is due."""
        due = min((state.due for state in self._states.values()), default=time.monotonic() + 3600)
        try:
            async with asyncio.timeout(max(0.0, due - time.monotonic())):
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            self._woken.clear()

    async def _turn(self, duty: Duty, state: State) -> bool:
        """Whether there may be more."""
        state.woken = False  # what is committed from here on, this turn may not see
        try:
            more = await duty.turn()
        except AmqpJobsError as error:
            self._failed(duty, state, str(error))
            return False
        except Exception as error:
            self._failed(duty, state, f"{type(error).__name__}: {error}")
            log.exception("housekeeping failed", extra={"duty": duty.name})
            return False
        now = time.monotonic()
        if state.problem is not None:
            log.info("housekeeping goes on", extra={"duty": duty.name})
        state.problem, state.pause, state.last = None, FIRST_PAUSE, now
        pause = duty.pause * (1 - JITTER * random.random())  # noqa: S311 - not a secret
        state.due = now if more or state.woken else now + pause
        return more

    def _failed(self, duty: Duty, state: State, problem: str) -> None:
        end_if_cancelled()  # a driver makes errors of its own of that
        state.errors += 1
        if state.problem is None:
            extra = {"duty": duty.name, "error": problem, "pause_s": state.pause}
            log.warning("housekeeping has to wait", extra=extra)
        state.problem = problem
        state.due = time.monotonic() + state.pause * (1 - JITTER * random.random())  # noqa: S311
        state.pause = min(LONGEST_PAUSE, state.pause * 2)

    async def until_done(self) -> bool:
        """Do everything that is to be done now, for tests.

        Returns:
            Whether anything was.

        Raises:
            AmqpJobsError: what a duty raises.
        """
        found = False
        for duty in self._states:
            while await duty.turn():
                found = True
        return found

    async def next_at(self) -> float | None:
        """When the next duty is due by the clock, for tests."""
        times = [await duty.next_at() for duty in self._states]
        return min((each for each in times if each is not None), default=None)
