"""``amqpjobs doctor``: what would go wrong, each with its mend.

Changes when there is more to check.
"""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

import typer

from amqpjobs.broker.rabbitmq.profile import EMBEDDED
from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_rows

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire
    from amqpjobs.broker.rabbitmq.profile import Profile


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        mend: what to do about it; empty when all is well.
    """

    check: str
    state: Literal["ok", "warning", "error"]
    finding: str
    mend: str = ""


def doctor(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Connect, and check version, permissions, queues, timeouts, clock and limits.

    Exits with 1 if there is an error, with 3 if there is no connection.
    """
    loaded = load_app(app, url=url)
    checks = asyncio.run(_examine(loaded))
    rows = [{k: v or None for k, v in asdict(check).items()} for check in checks]
    print_rows(rows, ("state", "check", "finding", "mend"), as_json=as_json, empty="")
    if any(check.state == "error" for check in checks):
        raise typer.Exit(1)


async def _examine(app: "App") -> list[Check]:
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "doctor") as wire:
        checks = [_version(wire), *_limits(wire, app)]
        checks += [check async for check in _permissions(wire)]
        checks += [check async for check in _queues(app, wire)]
        checks.append(await _unroutable(wire))
        if wire.profile.product != EMBEDDED:
            checks.append(await asyncio.to_thread(_management, app))
        checks += [_clock(wire), *_timeouts(app, wire.profile), _files(app), *_transport(app)]
    return checks


def _version(wire: "Wire") -> Check:
    profile = wire.profile
    if profile.product == EMBEDDED:
        mend = "right for development and tests; production is RabbitMQ"
        return Check("version", "warning", f"{profile.text}: in memory", mend)
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


def _limits(wire: "Wire", app: "App") -> list[Check]:
    need = sum(len(q.lanes) for q in app.queues.values()) + 3
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


async def _permissions(wire: "Wire") -> AsyncIterator[Check]:
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


async def _queues(app: "App", wire: "Wire") -> AsyncIterator[Check]:
    from amqpjobs.broker.rabbitmq.declarer import Declarer

    async with Declarer(wire) as declarer:
        findings = await declarer.check(app.topology)
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
        if queue.type != "quorum":
            yield Check(
                f"queue {queue.name!r}",
                "warning",
                "a classic queue: one node has it, and it does not count how often a job came back",
                "use type='quorum' unless you need native priorities",
            )


async def _unroutable(wire: "Wire") -> Check:
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


def _management(app: "App") -> Check:
    from amqpjobs.broker.rabbitmq.inspection.management_api import NotAnswered, address_of, unacked

    try:
        unacked(app.settings)
    except NotAnswered as error:
        finding = "it does not tell what is unacked, which `queues` leaves out"
        return Check("management API", "warning", finding, str(error))
    return Check("management API", "ok", f"answers at {address_of(app.settings)}")


def _clock(wire: "Wire") -> Check:
    import time

    # Deadlines compare the clocks of the enqueuing and the working machine.
    year = time.gmtime().tm_year
    if year < 2024:
        return Check("clock", "error", f"this machine believes it is {year}", "run an NTP client")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _timeouts(app: "App", profile: "Profile") -> list[Check]:
    from amqpjobs.worker.hold_limits import holding_of

    settings = app.settings
    prefetch = settings.prefetch or 2 * settings.concurrency
    checks = [
        Check(f"job {problem.job!r}", "warning", problem.finding, problem.mend)
        for queue in app.queues.values()
        for problem in holding_of(
            app.client.runtime,
            queue,
            profile,
            concurrency=settings.concurrency,
            held=prefetch * len(queue.lanes),
        ).problems()
    ]
    without = [d.name for d in app.jobs.values() if d.timeout is None]
    if without:
        checks.append(
            Check(
                "timeouts",
                "warning",
                f"jobs without one: {', '.join(without[:5])}",
                "give @app.job(timeout=seconds), or a job that hangs is run again, and hangs again",
            )
        )
    return checks or [Check("timeouts", "ok", "every job has one, which RabbitMQ waits for")]


def _files(app: "App") -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = 64 + 4 * app.settings.concurrency
    if soft < need:
        return Check(
            "open files", "error", f"the limit is {soft}, {need} may be needed", "ulimit -n 4096"
        )
    return Check("open files", "ok", f"the limit is {soft}")


def _transport(app: "App") -> list[Check]:
    settings = app.settings
    url = settings.url.get_secret_value()
    if settings.tls_insecure:
        return [
            Check(
                "TLS", "error", "the server's certificate is not verified",
                "unset AMQPJOBS_TLS_INSECURE and give AMQPJOBS_TLS_CA_FILE",
            )
        ]  # fmt: skip
    local = any(f"@{host}" in url or f"//{host}" in url for host in ("localhost", "127.0.0.1"))
    if url.startswith("amqp:") and not local:
        return [Check("TLS", "warning", "passwords and jobs travel in the clear", "use amqps://")]
    return [Check("TLS", "ok", "encrypted" if url.startswith("amqps") else "same machine")]
