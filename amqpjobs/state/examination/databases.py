"""Leaving the user's databases after a look: a command ends, and its event loop with it.

Changes when a program may name a database in another way.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncEngine

from amqpjobs.state.outbox.places import engine_of

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory


@asynccontextmanager
async def closing(memory: "Memory") -> AsyncIterator[None]:
    """Close the connections to all databases of an app at the end of the block.

    Those of an asynchronous engine belong to the event loop, and aiosqlite's are threads that keep
    the process alive. The engines can be used again.
    """
    try:
        yield
    finally:
        engines = [memory.outbox.bind, *(engine_of(make()) for make in sessions_of(memory))]
        for engine in engines:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
        await memory.close()


def sessions_of(memory: "Memory") -> list[Any]:
    """The sessionmakers of ``once=``, each once."""
    jobs = memory.client.runtime.registry.jobs.values()
    return list(dict.fromkeys(job.once for job in jobs if job.once is not None))
