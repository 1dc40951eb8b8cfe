"""One run of a durable job: stores steps, waits for them, and suspends the handler.

Changes when a step is executed in another way; `amqpjobs.state.durable.rows` stores it.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from amqpjobs.errors import ConfigurationError, JobFailed, StoreUnavailable
from amqpjobs.jobs.durable.asked import Asked
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.run_context import RunContext, context_of_nobody
from amqpjobs.state.durable.blocked import (
    Doing,
    doing,
    goes_on_at_first,
    tasks_behind,
    where_to_leave,
)
from amqpjobs.state.durable.groups import Shared
from amqpjobs.state.durable.rows import Begun, Owner, load, put, put_cursor
from amqpjobs.state.durable.values import ABANDONED, FAILED, WAITING, Failed, Step

log = logging.getLogger("amqpjobs.durable")

LOOK = 0.05
"""Seconds between two looks whether the handler does anything but wait."""

FIRST_LOOKS = 3
"""Looks that come at once: a handler that only waits is left within a millisecond."""

POLL = 1.0
"""Seconds between two looks into the store, while a handler waits and does something else, too."""

CALLS = 200
"""Calls that are prepared and written at once; others of the handler come after them."""

POLL_SHARE = 10
"""Times as long as a look into the store has taken there is none: of many steps it takes long."""

MANY = 200
"""Steps that are waited for, from which on no last look is worth its time."""

LONGEST_LIVE = 60.0
"""Seconds for which a handler may await what is not known here, such as a socket, while all else
that it does is waiting. Then it is left all the same, and starts anew when it is woken."""

PATIENCE = 2.0
"""Seconds for which all that a handler does may be to wait for an event, a lock or a queue: another
task, of its own or not, may be about to go on."""

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
        calling: held by calls that are being prepared and written.
        at_first: whether it is sent again when the first of these has ended.
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
        self._parking: set[asyncio.Task[Any]] = set()
        self._busy: set[asyncio.Future[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._cursors: dict[str, Step] = {}
        self.suspending = self.superseded = self.at_first = self._over = False
        self.unstored: StoreUnavailable | None = None
        self.waits: tuple[str, ...] = ()
        self.maps: set[str] = set()
        self._soon = asyncio.Event()
        self._failures: list[BaseException] = []
        self._writing = 0
        self._inside: dict[asyncio.Task[Any] | None, str] = {}
        self.calling = asyncio.Semaphore(CALLS)

    def __repr__(self) -> str:
        return f"<DurableRun {self.owner.job_id}: {len(self._asked)} steps asked>"

    def ask(self, name: str, kind: str) -> None:
        """A name is used in this run; once.

        Raises:
            ConfigurationError: it was used before, or is none.
            Suspend: the handler is being left.
        """
        try:
            self._asked.check(name)
            self._check_transaction(name)
            if self.suspending or self._over:
                raise Suspend(name)
            known = self.known.get(name)
            self._asked.use(name, kind, None if known is None else known.kind)
        except ConfigurationError as error:
            self.remember(error)
            raise

    @contextmanager
    def in_transaction(self, name: str) -> Iterator[None]:
        """Around what a handler does in a transaction that holds the row of its job."""
        task = asyncio.current_task()
        self._inside[task] = name
        try:
            yield
        finally:
            self._inside.pop(task, None)

    def _check_transaction(self, name: str) -> None:
        outer = self._inside.get(asyncio.current_task()) if self._inside else None
        if outer is not None:
            raise ConfigurationError(
                f"the step {name!r} is inside of ctx.step_in(session, {outer!r}), and would wait "
                "for its transaction: end that one first"
            )

    @contextmanager
    def busy(self, name: str) -> Iterator[None]:
        """Around what a step does here: a handler that is left waits for its end. If it fails, the
        handler may try again."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._busy.add(future)
        try:
            yield
        except Exception:
            self._asked.forget(name)
            raise
        finally:
            self._busy.discard(future)
            future.set_result(None)

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
        self._writing += 1
        try:
            await self._write(step, more)
        finally:
            self._writing -= 1

    async def _write(self, step: Step, more: Mapping[str, Any]) -> None:
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
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 - handlers run in tasks
            self._parking.add(task)
            try:
                await future
            finally:
                self._parked.pop(name, None)
                self._parking.discard(task)
        if step.state == ABANDONED:
            self.supersede()  # another worker has ended the job: it was cancelled, or its time over
        if step.state == FAILED:
            self._asked.forget(name)  # asked for again, it fails again
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
        looks, rest = 0, LOOK
        polled = begun = passing = time.monotonic()
        while self._parked and not self.suspending:
            await asyncio.sleep(0 if looks < FIRST_LOOKS else LOOK)
            looks += 1
            now, does = time.monotonic(), self._does()
            if does is Doing.WAIT or (does is Doing.PASS and now - passing > PATIENCE):
                if len(self._parked) <= MANY and (self._soon.is_set() or looks > FIRST_LOOKS + 1):
                    await self._poll()  # what has ended by now need not wake it
                    if self._does() is not does:
                        begun = passing = time.monotonic()
                        continue
                self.leave()
                return
            if does is Doing.WORK:
                passing = now
            if self._busy or self._writing:
                begun = now  # a step that was left would be called a second time
            if now - begun > LONGEST_LIVE:
                keys = {**self.context.log_keys(), "seconds": LONGEST_LIVE}
                log.warning("durable job left while it awaits something else", extra=keys)
                self.leave()
                return
            since = now - polled
            if (self._soon.is_set() and since > rest) or since > max(POLL, rest):
                polled = time.monotonic()
                if await self._poll():
                    begun = passing = polled
                rest = max(LOOK, POLL_SHARE * (time.monotonic() - polled))

    def _does(self) -> Doing:
        """What the handler does. A look at thousands of tasks takes its time, so there is none
        while steps are being written."""
        if self._writing:
            return Doing.WORK
        does = doing(self._task, set(self._parked.values()))
        # A step goes on in a task that the handler waits for in a way that is not seen.
        return Doing.WORK if does is Doing.PASS and self._busy else does

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
        """Leave the handler: what it awaits raises `Suspend`, and so does everything that waits in
        its tasks."""
        self.suspending = True
        self.waits = tuple(self._parked)
        self.at_first = goes_on_at_first(self._task)
        for task in {*tasks_behind(self._task), *self._parking}:
            task.add_done_callback(_seen)
        places = [*where_to_leave(self._task), *self._parked.values()]
        for future in places:
            if not future.done():
                future.set_exception(Suspend(*self.waits))

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
        """End the run after its handler. It waits for steps that still run, so that no other run
        begins them at the same time."""
        self._over = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        for future in self._parked.values():
            future.cancel()
        while self.suspending and self._busy:
            await asyncio.wait(list(self._busy))


def _seen(task: "asyncio.Task[Any]") -> None:
    """Retrieve the error of a future, which asyncio would log otherwise."""
    if not task.cancelled():
        task.exception()
