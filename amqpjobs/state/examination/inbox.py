"""Looks at the databases of ``once=``. Changes when such a job needs something else of them."""

from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.examination.databases import sessions_of
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.inbox.transactions import InTransactions
from amqpjobs.state.outbox.places import Bound, engine_of

if TYPE_CHECKING:
    from amqpjobs.state.memory import Memory

KEEP = "set it up as the finding says; the guide's page transactions explains it"


async def examine_inboxes(memory: "Memory") -> list[Finding]:
    """Whether the tables are there, and transactions are kept, by the sessions of each job."""
    jobs = memory.client.runtime.registry.jobs.values()
    looks = InTransactions(memory)
    found = []
    for sessions in sessions_of(memory):
        names = ", ".join(sorted(job.name for job in jobs if job.once is sessions))
        found.append(await _examine(looks, sessions, f"once= of {names}"))
    return found


async def _examine(looks: InTransactions, sessions: Any, check: str) -> Finding:
    try:
        name = Bound(engine_of(sessions())).name
    except Exception as error:  # noqa: BLE001 - a callable of the user's
        return Finding(check, "error", f"gives no session: {error}", "see once= in the guide")
    try:
        await looks.look(sessions)
    except AmqpJobsError as error:
        return Finding(check, "error", f"{name}: {error}", KEEP)
    except (DBAPIError, PoolTimeout, OSError) as error:
        said = f"{name}: cannot be reached: {getattr(error, 'orig', None) or error}"
        return Finding(check, "error", said, "start the database: its jobs wait until then")
    return Finding(check, "ok", f"{name}: the inbox is there, transactions are kept")
