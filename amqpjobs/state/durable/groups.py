"""Transactions that many runs share: writes of the same moment are committed together.

Changes when writes are grouped in another way.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import ColumnElement, Connection, select

from amqpjobs.errors import StoreUnavailable
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.state.durable.bulk import Piece, run_pieces
from amqpjobs.state.limits.keys import among
from amqpjobs.state.outbox.rows import SENDS, Sends
from amqpjobs.state.store.tables import durable

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.outbox.soon import SendsSoon
    from amqpjobs.state.store.durable import DurableStore

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 200
"""Pieces of work in one transaction."""

Work = tuple[Piece, "asyncio.Future[Any]"]


class Groups:
    """Runs functions of a connection, those that come together in one transaction.

    Args:
        memory: of the app, whose store it is.
    """

    def __init__(self, memory: "Memory") -> None:
        self._memory = memory
        self._work: list[Work] = []
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Groups: {len(self._work)} waiting>"

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._task is None or self._task.done()

    async def run(
        self,
        job_id: str,
        function: "Callable[Concatenate[Connection, P], T]",
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a function that works on one durable job, in a transaction that is kept when this
        returns.

        Args:
            job_id: of that job: its row is locked before, in one order for all.

        Raises:
            StoreUnavailable: nothing of it is known to be kept.
            Exception: what the function raises.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._work.append((Piece(job_id, function, args, kwargs), future))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(), context=context_of_nobody())
        # A cancelled write is still committed, since it may already be in a transaction.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        while self._work:
            await asyncio.sleep(0)  # what comes in this moment goes along
            work, self._work = self._work[:AT_ONCE], self._work[AT_ONCE:]
            await self._together(sorted(work, key=_job_of))

    async def _together(self, work: list[Work]) -> None:
        try:
            store = await self._memory.store()
            soon = self._memory.soon
            pieces = [piece for piece, _ in work]
            results, sends = await store.run(_all, self._memory.app, pieces, soon)
        except StoreUnavailable as error:
            for _, future in work:
                _fail(future, error)
        except Exception as error:  # noqa: BLE001 - of one of them, which is not in the others' way
            if len(work) == 1:
                _fail(work[0][1], error)
                return
            for each in work:
                await self._together([each])
        else:
            self._send(sends, soon)
            for (_, future), result in zip(work, results, strict=True):
                if not future.done():
                    future.set_result(result)

    def _send(self, sends: Sends, soon: "SendsSoon | None") -> None:
        """Send what was committed."""
        if sends.rows and soon is not None:
            soon.send(sends.rows)
        if sends.others:
            self._memory.nudge()

    async def finish(self, seconds: float) -> None:
        """Wait until all is written, for so long at most."""
        if self._task is not None and not self._task.done():
            await asyncio.wait((self._task,), timeout=seconds)


class Shared:
    """What the runs of a process have in common.

    Args:
        memory: of the app.
        store: of the app.
        groups: runs what is written.

    Attributes:
        client: of the app.
        groups: as given.
    """

    def __init__(self, memory: "Memory", store: "DurableStore", groups: Groups) -> None:
        self._memory = memory
        self._store = store
        self.client = memory.client
        self.groups = groups

    def __repr__(self) -> str:
        return f"<Shared: {self.groups!r}>"

    @property
    def now(self) -> ColumnElement[float]:
        """The time of the store, for a statement."""
        return self._store.now


def _job_of(work: Work) -> str:
    return work[0].job_id


def _all(
    connection: Connection, app: str, pieces: list[Piece], soon: "SendsSoon | None"
) -> tuple[list[Any], Sends]:
    sends = Sends("", 0.0) if soon is None else soon.sends()
    connection.execution_options(**{SENDS: sends})
    ids = sorted({piece.job_id for piece in pieces})
    if len(ids) > 1 and connection.dialect.name == "postgresql":
        # Or two transactions that each have two of them could wait for each other.
        chosen = select(durable.c.job_id).where(
            durable.c.app == app, among(connection, durable.c.job_id, ids)
        )
        connection.execute(chosen.order_by(durable.c.job_id).with_for_update())
    return run_pieces(connection, pieces), sends


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # the caller may be gone
