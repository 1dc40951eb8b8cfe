"""Looks into an outbox, for people and tests. Changes when there is more to see."""

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table, select

from amqpjobs.jobs.message.headers import tags_of
from amqpjobs.jobs.message.message import Message, Options
from amqpjobs.state.outbox.rows import Held, held, message_of
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.memory import Memory
    from amqpjobs.state.store.runs import Runs


async def messages_in(memory: "Memory") -> list[Message[Any]]:
    """The messages that are to be sent, in their order."""
    place = await memory.place()
    return await place.run(_messages, memory.outbox.table, memory.app)


def _messages(connection: Connection, table: Table, app: str) -> list[Message[Any]]:
    rows = connection.execute(select(table).where(table.c.app == app).order_by(table.c.id))
    found: list[Message[Any]] = []
    for row in rows:
        each = message_of(row)
        options = Options(at=each.due, tags=tags_of(each.properties.headers))
        found.append(Message(each.job_id, each.job, each.routing_key, each.body, options))
    return found


async def held_by(memory: "Memory") -> Held:
    """How much is in the outbox.

    Raises:
        StoreUnavailable, ConfigurationError: its database cannot be used.
    """
    place: Runs = await memory.place()
    return await place.run(held, memory.outbox.table, memory.app, place.now)


async def held_of(client: "Client") -> Held | None:
    """How much is in the outbox of an app, for a command: it leaves the databases again.

    Returns:
        None where there is no outbox, or no SQLite file yet: asking makes none.

    Raises:
        StoreUnavailable, ConfigurationError: its database cannot be used.
    """
    from amqpjobs.state.examination.databases import closing
    from amqpjobs.state.memory import memory_of

    memory = memory_of(client)
    if memory.outbox.bind is None and not store_exists(client.runtime.settings):
        return None
    async with closing(memory):
        return await held_by(memory)
