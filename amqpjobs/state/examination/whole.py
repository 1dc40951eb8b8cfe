"""Looks at all that an app remembers: the store, the outbox, the databases of ``once=``.

Nothing of SQLAlchemy is imported for an app that has no use for it. Changes when an app remembers
something else.
"""

import importlib.util
from typing import TYPE_CHECKING

from amqpjobs.jobs.hints import install
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.examination.store import examine_store
from amqpjobs.state.needs import needed_by, needs_store
from amqpjobs.state.store.engine import store_exists

if TYPE_CHECKING:
    from amqpjobs.client.client import Client


async def examine(client: "Client") -> list[Finding]:
    """What there is to say of the memory of an app, that of the store first."""
    runtime = client.runtime
    registry, settings = runtime.registry, runtime.settings
    needs = needed_by(registry)
    if importlib.util.find_spec("sqlalchemy") is None:
        return [_without(needs, given="store_url" in settings.model_fields_set)]
    found = await examine_store(settings, registry.name, needs)
    if not needs_store(registry) and (
        not store_exists(settings) or any(each.state == "error" for each in found)
    ):
        return found
    from amqpjobs.state.examination.databases import closing
    from amqpjobs.state.examination.durable import examine_durable
    from amqpjobs.state.examination.inbox import examine_inboxes
    from amqpjobs.state.examination.limits import examine_limits
    from amqpjobs.state.examination.outbox import examine_outbox
    from amqpjobs.state.memory import memory_of

    memory = memory_of(client)
    async with closing(memory):
        if memory.outbox.bind is not None or all(each.state != "error" for each in found):
            found += await examine_outbox(memory)
        if all(each.state != "error" for each in found):
            found += await examine_limits(memory)
            found += await examine_durable(memory)
        return found + await examine_inboxes(memory)


def _without(needs: list[str], *, given: bool) -> Finding:
    what = "not installed: the extra sql"
    if needs:
        said = f"{what}, and {', '.join(needs)} of this app need it"
        return Finding("store", "error", said, install("amqpjobs[sql]"))
    if given:
        return Finding(
            "store", "error", f"{what}, and AMQPJOBS_STORE_URL is set", install("amqpjobs[sql]")
        )
    return Finding("store", "ok", f"{what}, and nothing of this app needs it")
