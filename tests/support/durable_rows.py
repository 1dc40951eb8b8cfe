"""Durable jobs as rows of a database, without a handler or a broker: what two processes write."""

import asyncio
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, select

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family, Part
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.ends import end_step, suspend
from amqpjobs.state.durable.rows import Beginning, Begun, Owner, begin, load, put, rows_of
from amqpjobs.state.durable.values import CALL, WAITING, Ended, Failed, Step, Told, Undo
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.tables import outbox

APP = "shop"
LOST = Ended(error=Failed("ValueError", "none left"))


def message(job_id: str, job: str = "part") -> Prepared:
    """A message of a job."""
    return Prepared(job_id, job, "parts", Properties(message_id=job_id, type=job), b"{}")


@dataclass
class Jobs:
    """Two processes' stores of the same database, and the durable jobs in it."""

    first: DurableStore
    second: DurableStore

    async def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a function of a connection, whose last argument is the time."""
        return await self.first.run(function, *args, self.first.now, **kwargs)

    async def both(self, one: tuple[Any, ...], other: tuple[Any, ...]) -> list[Any]:
        """Run two at once, in processes of their own."""
        return await asyncio.gather(
            self.first.run(*one, self.first.now), self.second.run(*other, self.second.now)
        )

    async def begun(self, job_id: str, epoch: int = 0, **more: Any) -> Begun:
        """Begin a run."""
        owner = Owner(APP, job_id, epoch)
        begun = await self.run(begin, Beginning(owner, "whole", "wholes", **more))
        assert isinstance(begun, Begun)
        return begun

    async def called(
        self, job_id: str, token: int, *names: str, undo: bool = False, send: bool = False
    ) -> None:
        """Write calls that are waited for."""
        for n, name in enumerate(names, 1):
            back = Undo(message(f"{job_id}.{name}.undo", "back"), given=True) if undo else None
            step = Step(
                name, CALL, n, WAITING, awaited=True, child="part", child_id=f"{job_id}.{name}",
                undo=back,
            )  # fmt: skip
            owner = Owner(APP, job_id, 0)
            sent = message(f"{job_id}.{name}") if send else None
            assert await self.run(put, owner, token, step, message=sent)

    async def ended(self, job_id: str, name: str, ended: Ended, part: Part = "call") -> Told:
        """End the job of a step."""
        child = f"{job_id}.{name}" + (".undo" if part == "undo" else "")
        told = await self.run(end_step, APP, Family(job_id, 0, name, part), child, ended)
        assert isinstance(told, Told)
        return told

    async def state(self, job_id: str) -> str:
        """The state of a job."""
        row, _ = await self.first.run(rows_of, APP, job_id)
        return str(row.state)

    async def sent(self, job_id: str) -> int:
        """How often a message of this id was sent."""

        def count(connection: Connection) -> int:
            query = select(func.count()).select_from(outbox).where(outbox.c.job_id == job_id)
            return connection.scalar(query) or 0

        return await self.first.run(count)

    async def steps(self, job_id: str, epoch: int = 0) -> dict[str, Step]:
        """What is kept of its steps."""
        return await self.first.run(load, Owner(APP, job_id, epoch))

    async def relayed(self) -> int:
        """Send the outbox, as far as the rows know: how many there were."""

        def send(connection: Connection) -> int:
            return connection.execute(delete(outbox)).rowcount

        return await self.first.run(send)


async def suspended(
    jobs: Jobs, job_id: str, *names: str, undo: bool = False, send: bool = False
) -> int:
    """A job that waits for these calls."""
    begun = await jobs.begun(job_id)
    await jobs.called(job_id, begun.token, *names, undo=undo, send=send)
    told = await jobs.run(suspend, Owner(APP, job_id, 0), begun.token, names, message(job_id))
    assert told == Told(woken=0)
    return begun.token
