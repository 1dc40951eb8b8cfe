"""One run of a durable job: what its handler asks of the context, remembered.

Changes when a step is carried out in another way; `amqpjobs.state.durable.rows` stores it.
"""

import asyncio
import logging
import time
from typing import Any, NoReturn

from amqpjobs.errors import JobFailed, StoreUnavailable
from amqpjobs.jobs.durable.asked import Asked
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.run_context import RunContext, context_of_nobody
from amqpjobs.state.durable.blocked import is_blocked
from amqpjobs.state.durable.groups import Shared
from amqpjobs.state.durable.rows import Begun, Owner, load, put, put_cursor
from amqpjobs.state.durable.values import WAITING, Failed, Step

log = logging.getLogger("amqpjobs.durable")

LOOK = 0.05
"""Seconds between two looks whether the handler does anything but wait."""

FIRST_LOOKS = 3
"""Looks that come at once: a handler that only waits is left within a millisecond."""

POLL = 1.0
"""Seconds between two looks into the store, while a handler waits and does something else, too."""

LONGEST_LIVE = 60.0
"""Seconds for which a handler may await what is not known here, such as a socket, while all else
that it does is waiting. Then it is left all the same, and starts anew when it is woken."""

STORE_TRIES = 5
"""Times that a step is written, when the store is away, before its job waits on its queue."""


class DurableRun:
    """The run of a durable job.

    Args:
        shared: what it has in common with the others of its process.
        context: of the run.
        owner: which job.
        begun: what was found of it.
        task: in which its handler runs.

    Attributes:
        suspending: whether its handler is being left.
        superseded: whether a newer run of the job has begun.
        unstored: why the store could not be reached; None if it could.
        waits: the names of what it waits for, once it is left.
        maps: the names of the maps that have items to send.
    """

    def __init__(
        self,
        shared: Shared,
        context: RunContext,
        owner: Owner,
        begun: Begun,
        task: "asyncio.Task[Any]",
    ) -> None:
        self.shared = shared
        self.context = context
        self.owner = owner
        self.token = begun.token
        self.known = begun.steps
        self._task = task
        self._next = max((step.n for step in self.known.values()), default=0) + 1
        self._asked = Asked()
        self._parked: dict[str, asyncio.Future[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._cursors: dict[str, Step] = {}
        self.suspending = self.superseded = False
        self.unstored: StoreUnavailable | None = None
        self.waits: tuple[str, ...] = ()
        self.maps: set[str] = set()
        self._soon = asyncio.Event()
        self._failures: list[BaseException] = []
        self.stepping = 0  # steps whose functions run now

    def __repr__(self) -> str:
        return f"<DurableRun {self.owner.job_id}: {len(self._asked)} steps asked>"

    def ask(self, name: str, kind: str) -> None:
        """A name is used in this run; once.

        Raises:
            ConfigurationError: it was used before, or is none.
            Suspend: the handler is being left.
        """
        known = self.known.get(name) if isinstance(name, str) else None
        self._asked.check(name)
        if self.suspending:
            raise Suspend(name)
        self._asked.use(name, kind, None if known is None else known.kind)

    def _number(self, known: Step | None) -> int:
        if known is not None:
            return known.n
        self._next += 1
        return self._next - 1

    number = _number

    async def write(self, step: Step, **more: Any) -> None:
        """Store a step. A store that is away is waited for a little; then the job waits on its
        queue, and no attempt is used.

        Raises:
            Suspend: nothing more is to be done here.
        """
        for attempt in range(1, STORE_TRIES + 1):
            try:
                written = await self.shared.groups.run(
                    self.owner.job_id, put, self.owner, self.token, step, self.shared.now, **more
                )
            except StoreUnavailable as error:
                if attempt == STORE_TRIES:
                    self.unstored = error
                    self.leave()
                    raise Suspend(step.name) from None
                await asyncio.sleep(attempt)
                continue
            if written:
                self.known[step.name] = step
                return
            break
        found = await self._loaded([step.name])
        if step.state == WAITING and step.name in found:
            self.known[step.name] = found[step.name]
            return
        self.supersede()

    def supersede(self) -> NoReturn:
        """A newer run of the job has begun: this one changes nothing more.

        Raises:
            Suspend: always.
        """
        self.superseded = True
        self.leave()
        raise Suspend("superseded")

    async def _loaded(self, names: list[str]) -> dict[str, Step]:
        groups = self.shared.groups
        found: dict[str, Step] = await groups.run(self.owner.job_id, load, self.owner, names)
        return found

    async def result_of(self, name: str) -> Step:
        """Wait until a step has ended.

        Raises:
            Suspend: all that the handler does is wait, so it is left.
        """
        while (step := self.known[name]).state == WAITING:
            if self.suspending:
                raise Suspend(name)
            future = self._parked[name] = asyncio.get_running_loop().create_future()
            if self._watching is None or self._watching.done():
                self._watching = asyncio.get_running_loop().create_task(
                    self._watch(), context=context_of_nobody()
                )
            try:
                await future
            finally:
                self._parked.pop(name, None)
        return step

    def failed(self, step: Step) -> JobFailed:
        """The error of a call that has failed: the same in every run, so that the job need not be
        tried again for it."""
        error = step.error or Failed("failed", "it failed")
        failure = JobFailed(
            error.message, error=error.error, job=error.job or step.child or step.name,
            attempt=error.attempt, job_id=error.job_id or step.child_id,
        )  # fmt: skip
        self.remember(failure)
        return failure

    def remember(self, failure: BaseException) -> None:
        """An error is the same in every run."""
        self._failures.append(failure)

    def is_remembered(self, error: BaseException | None) -> bool:
        """Whether an error is the same in every run; a group, as task groups make it, if all of it
        is."""
        if isinstance(error, BaseExceptionGroup):
            return all(self.is_remembered(each) for each in error.exceptions)
        return any(error is each for each in self._failures)

    async def _watch(self) -> None:
        """Leave the handler when all that it does is wait; until then, see what has ended."""
        looks = 0
        polled = begun = time.monotonic()
        while self._parked and not self.suspending:
            await asyncio.sleep(0 if looks < FIRST_LOOKS else LOOK)
            looks += 1
            if is_blocked(self._task, set(self._parked.values())):
                if self._soon.is_set() or looks > FIRST_LOOKS + 1:
                    await self._poll()  # what has ended by now need not wake it
                    if not is_blocked(self._task, set(self._parked.values())):
                        begun = time.monotonic()
                        continue
                self.leave()
                return
            if self.stepping:
                begun = time.monotonic()  # a step that was left would be called a second time
            if time.monotonic() - begun > LONGEST_LIVE:
                keys = {**self.context.log_keys(), "seconds": LONGEST_LIVE}
                log.warning("durable job left while it awaits something else", extra=keys)
                self.leave()
                return
            if self._soon.is_set() or time.monotonic() - polled > POLL:
                polled = time.monotonic()
                if await self._poll():
                    begun = polled

    def look_soon(self) -> None:
        """Something that it waits for has ended."""
        self._soon.set()

    async def _poll(self) -> bool:
        self._soon.clear()
        try:
            found = await self._loaded(list(self._parked))
        except StoreUnavailable:
            return False
        for name, step in found.items():
            self.known[name] = step
            if (future := self._parked.get(name)) is not None and not future.done():
                future.set_result(None)
        return bool(found)

    def leave(self) -> None:
        """Leave the handler: everything that waits in it raises `Suspend`."""
        self.suspending = True
        self.waits = tuple(self._parked)
        for name, future in self._parked.items():
            if not future.done():
                future.set_exception(Suspend(name))

    # Loops.

    def move(self, step: Step) -> None:
        """A loop has come so far; it is stored by `flush`."""
        self._cursors[step.name] = step
        self.known[step.name] = step

    async def flush(self, name: str | None = None) -> None:
        """Store how far loops have come.

        Raises:
            StoreUnavailable: the store is away.
        """
        for step in list(self._cursors.values()):
            if name is not None and step.name != name:
                continue
            written = await self.shared.groups.run(
                self.owner.job_id, put_cursor, self.owner, self.token, step, self.shared.now
            )
            self._cursors.pop(step.name, None)
            if not written:
                self.superseded = True

    async def close(self) -> None:
        """The handler has ended."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
