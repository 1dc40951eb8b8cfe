"""What the doctor says of queues and exchanges that others declare, and of bindings.

Changes when something else is checked of them.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from amqpjobs.cli.doctor.check import Check
from amqpjobs.client.client import registry_of
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import joined

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire

DEAD_LETTERING = "dead-letter-exchange"
"""In a policy; an argument of a queue has ``x-`` in front."""


async def foreign(app: "App", wire: "Wire") -> AsyncIterator[Check]:
    """Whether what others declare is there."""
    from amqpjobs.broker.rabbitmq.declarer import Declarer

    others = registry_of(app).foreign
    async with Declarer(wire) as declarer:
        findings = await declarer.check(others) if others.exchanges or others.queues else []
    for finding in findings:
        if finding.state == "missing":
            fix = "its owner has to declare it, in this virtual host; workers wait for it"
            yield Check(finding.entity, "warning", "foreign, and missing", fix)
        else:
            yield Check(finding.entity, "ok", "foreign: declared by its owner")


def bindings(app: "App") -> list[Check]:
    """What is missing of the app's bindings, or left over; and where rejected jobs go."""
    from amqpjobs.broker.rabbitmq.inspection.bindings import compare_bindings
    from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered, queues_in

    registry = registry_of(app)
    if not registry.routes and not any(queue.foreign for queue in app.queues.values()):
        return []
    try:
        found, _ = compare_bindings(app.settings, joined(registry.topology, registry.foreign))
        rows = queues_in(app.settings)
    except NotAnswered as error:
        finding = "AMQP cannot list bindings, and the management API does not answer"
        return [Check("bindings", "warning", finding, str(error))]
    checks = [Check(each.entity, "warning", each.state, _FIXES[each.state]) for each in found]
    checks += dead_lettering(app.queues.values(), rows)
    return checks or [Check("bindings", "ok", "as declared")]


_FIXES: Mapping[str, str] = {
    "missing": "run `amqpjobs topology apply`",
    "left over": "`amqpjobs topology apply --prune`, when no worker of an earlier release needs it",
}


def dead_lettering(queues: Iterable[Queue], rows: Iterable[Mapping[str, Any]]) -> Iterator[Check]:
    """Foreign queues whose owner gets failed jobs, and has nowhere to put them.

    Args:
        queues: of the app.
        rows: of the management API.
    """
    there = {row.get("name"): row for row in rows}
    for queue in queues:
        row = there.get(queue.name)
        if row is None or not queue.foreign or queue.failed == "dead":
            continue
        policy, own = row.get("effective_policy_definition"), row.get("arguments")
        known = {*(policy if isinstance(policy, dict) else ())} | {
            name.removeprefix("x-") for name in (own if isinstance(own, dict) else ())
        }
        if DEAD_LETTERING not in known:
            yield Check(
                f"queue {queue.name!r}",
                "error",
                f"failed={queue.failed!r}, and the queue has no dead-letter exchange: RabbitMQ "
                "drops the jobs that fail",
                "failed='dead' keeps them; or its owner sets a policy with dead-letter-exchange",
            )
