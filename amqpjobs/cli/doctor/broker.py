"""What the doctor asks of RabbitMQ itself. Changes when there is more to check there."""

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.profile import EMBEDDED
from amqpjobs.cli.doctor.check import Check
from amqpjobs.client.client import registry_of
from amqpjobs.jobs.queue.queue import lanes_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire
    from amqpjobs.settings import Settings


def version(wire: "Wire") -> Check:
    """Which broker it is, and what that means for jobs."""
    profile = wire.profile
    if profile.product == EMBEDDED:
        fix = "right for development and tests; production is RabbitMQ"
        return Check("version", "warning", f"{profile.text}: in memory", fix)
    if not profile.supported:
        return Check(
            "version", "error", profile.text, "amqpjobs needs RabbitMQ 3.10 or newer: upgrade it"
        )
    notes = [
        "giving a job back counts towards the delivery limit"
        if profile.nack_counts
        else "giving a job back is free",
        "a late ack closes the channel"
        if profile.late_ack_closes_channel
        else "a late ack cancels one consumer",
    ]
    return Check("version", "ok", f"{profile.text}: {', '.join(notes)}")


def connection(wire: "Wire", settings: "Settings") -> Check:
    """The node that is connected, and how many others the URL names."""
    nodes = settings.broker_url.nodes
    cluster = f", cluster {wire.profile.cluster!r}" if wire.profile.cluster else ""
    named = f"; the URL names {len(nodes)} nodes" if len(nodes) > 1 else ""
    return Check("connection", "ok", f"to {wire.place}{cluster}{named}")


def limits(wire: "Wire", app: "App") -> list[Check]:
    """Whether a worker on all queues finds enough channels."""
    need = sum(len(lanes_of(q)) for q in app.queues.values()) + 3
    if wire.channel_max < need:
        return [
            Check(
                "channels",
                "error",
                f"channel_max is {wire.channel_max}, a worker on all queues needs {need}",
                "raise channel_max in rabbitmq.conf, or consume fewer queues in a process",
            )
        ]
    return [Check("channels", "ok", f"channel_max {wire.channel_max}, needed {need}")]


async def permissions(wire: "Wire") -> AsyncIterator[Check]:
    """Whether this user may declare queues."""
    from amqpjobs.broker.rabbitmq.inspection.queues import may_declare

    if await may_declare(wire, f"amqpjobs.doctor.{os.getpid()}"):
        yield Check("permissions", "ok", "this user may declare queues")
    else:
        yield Check(
            "permissions",
            "warning",
            "this user may not declare queues named amqpjobs.*",
            "fine if `amqpjobs topology apply` runs as another user before each release",
        )


async def queues(app: "App", wire: "Wire") -> AsyncIterator[Check]:
    """Whether queues and exchanges are there as they are declared."""
    from amqpjobs.broker.rabbitmq.declarer import Declarer

    async with Declarer(wire) as declarer:
        findings = await declarer.check(registry_of(app).topology)
    wrong = [f for f in findings if f.state in ("missing", "different")]
    for finding in wrong:
        if finding.state == "missing":
            yield Check(finding.entity, "warning", "missing", "run `amqpjobs topology apply`")
        else:
            yield Check(
                finding.entity,
                "error",
                f"other arguments: {finding.difference}",
                "make the declaration agree, or move its messages away, delete and apply it",
            )
    if not wrong:
        yield Check("topology", "ok", f"{len(findings)} queues and exchanges as declared")
    for queue in app.queues.values():
        if queue.singleton:
            found = "a singleton: one job at a time in all workers, others stand by"
            yield Check(f"queue {queue.name!r}", "ok", found)
        if queue.type != "quorum" and not queue.foreign:
            yield Check(
                f"queue {queue.name!r}",
                "warning",
                "a classic queue: one node has it, and it does not count how often a job came back",
                "use type='quorum' unless you need native priorities",
            )


async def holds(wire: "Wire") -> AsyncIterator[Check]:
    """What operators have paused, or limited."""
    from amqpjobs.broker.rabbitmq.inspection.overview import holds_now
    from amqpjobs.cli.output import moment

    for name, hold in (await holds_now(wire)).items():
        by = hold.by or "an operator"
        if hold.paused:
            end = "" if hold.until is None else f" until {moment(hold.until)}"
            fix = f"`amqpjobs resume {name}` when it is meant to run"
            yield Check(f"queue {name!r}", "warning", f"paused by {by}{end}", fix)
        if hold.rate is not None:
            found = f"{hold.rate} for each worker, set by {by}"
            yield Check(f"rate of {name!r}", "ok", found)


async def unroutable(wire: "Wire") -> Check:
    """Delayed jobs whose queue is gone."""
    from amqpjobs.broker.rabbitmq.declarer import Declarer
    from amqpjobs.errors import NotPermitted, TopologyMismatch
    from amqpjobs.jobs.queue.topology import DELAY_UNROUTABLE

    async with Declarer(wire) as declarer:
        try:
            count = (await declarer.look(DELAY_UNROUTABLE)).message_count or 0
        except TopologyMismatch:
            count = 0
        except NotPermitted as error:
            return Check("delays", "warning", "this user may not look at them", str(error))
    if not count:
        return Check("delays", "ok", "none without a queue to go to")
    return Check(
        "delays",
        "warning",
        f"{count} jobs waited for a queue that is gone; they are in {DELAY_UNROUTABLE}",
        "declare the queue again, then `amqpjobs dead replay --unroutable --all`",
    )
