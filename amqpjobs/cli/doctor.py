"""``amqpjobs doctor``: checks a deployment; each finding comes with its fix.

Changes when there is more to check.
"""

import asyncio
import math
import os
import resource
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from amqpjobs.broker.rabbitmq.profile import EMBEDDED
from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import RED, YELLOW, print_rows
from amqpjobs.client.client import registry_of
from amqpjobs.jobs.queue.queue import lanes_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.broker.rabbitmq.connection import Wire
    from amqpjobs.broker.rabbitmq.inspection.management_api import Held
    from amqpjobs.broker.rabbitmq.profile import Profile

LONG_WAIT = 10.0
"""Seconds until the last of what a worker holds is started, from which on it holds too much."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        fix: what to do about it; empty when all is well.
    """

    check: str
    state: Literal["ok", "warning", "error"]
    finding: str
    fix: str = ""


def doctor(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Check the deployment; each finding comes with its fix.

    It connects, and looks at version, permissions, queues, timeouts, clock, limits and the store.
    Exits with 1 if there is an error, with 3 if there is no connection.
    """
    loaded = load_app(app, url=url)
    checks = asyncio.run(_examine(loaded))
    rows = [{k: v or None for k, v in asdict(check).items()} for check in checks]
    print_rows(rows, ("state", "check", "finding", "fix"), as_json=as_json, empty="", mark=_mark)
    if any(check.state == "error" for check in checks):
        raise typer.Exit(1)


def _mark(column: str, row: Mapping[str, Any]) -> str | None:
    colours = {"error": RED, "warning": YELLOW}
    return colours.get(row["state"]) if column == "state" else None


async def _examine(app: "App") -> list[Check]:
    from amqpjobs.broker.rabbitmq.inspection.queues import connected

    async with connected(app.settings, "doctor") as wire:
        checks = [_version(wire), *_limits(wire, app)]
        checks += [check async for check in _permissions(wire)]
        checks += [check async for check in _queues(app, wire)]
        checks.append(await _unroutable(wire))
        checks += [check async for check in _holds(wire)]
        if wire.profile.product != EMBEDDED:
            checks += await asyncio.to_thread(_management, app)
        checks.append(await _store(app))
        checks += await _slots(app)
        checks += [_clock(wire), *_timeouts(app, wire.profile), _files(app), *_transport(app)]
    return checks


async def _store(app: "App") -> Check:
    from amqpjobs.state.status.examination import examine

    found = await examine(app.settings)
    return Check("store", "error" if found.fix else "ok", *found)


async def _slots(app: "App") -> list[Check]:
    """Whether jobs wait for slots for long."""
    if all(job.exclusion is None for job in app.jobs.values()):
        return []
    from amqpjobs.state.limits.examination import examine_limits

    found = await examine_limits(app.client)
    return [Check("limits", "warning" if found.fix else "ok", *found)]


def _version(wire: "Wire") -> Check:
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


def _limits(wire: "Wire", app: "App") -> list[Check]:
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
        if queue.type != "quorum":
            yield Check(
                f"queue {queue.name!r}",
                "warning",
                "a classic queue: one node has it, and it does not count how often a job came back",
                "use type='quorum' unless you need native priorities",
            )


async def _holds(wire: "Wire") -> AsyncIterator[Check]:
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


def _management(app: "App") -> list[Check]:
    from amqpjobs.broker.rabbitmq.inspection.management_api import (
        NotAnswered,
        address_of,
        held_by_workers,
        queues_without_leader,
        unacked,
    )

    try:
        unacked(app.settings)
        held = held_by_workers(app.settings)
        down = queues_without_leader(app.settings)
    except NotAnswered as error:
        finding = "it does not tell what is unacked, which `queues` leaves out"
        return [Check("management API", "warning", finding, str(error))]
    answers = Check("management API", "ok", f"answers at {address_of(app.settings)}")
    return [answers, *_down(app, down), *_waiting_in_workers(app, held)]


def _down(app: "App", names: "Iterable[str]") -> Iterator[Check]:
    """Quorum queues without a leader: nothing can be published to them or consumed."""
    ours = {declaration.name for declaration in registry_of(app).topology.queues}
    for name in names:
        if name in ours:
            yield Check(
                f"queue {name!r}",
                "error",
                "down: it has no leader",
                "start the nodes of its members; if it is down although they run, restart the node "
                "(rabbitmq-server#16652)",
            )


def _waiting_in_workers(app: "App", held: "Iterable[Held]") -> Iterator[Check]:
    """Deliveries that wait in a worker behind long jobs, where no idle worker can take them."""
    ours = {lane.queue for queue in app.queues.values() for lane in lanes_of(queue)}
    for each in held:
        seconds = each.waiting / each.acks if each.acks else math.inf
        if each.queue not in ours or not each.waiting or seconds < LONG_WAIT:
            continue
        pace = f"{each.acks:.2g} jobs a second" if each.acks else "no job in the last seconds"
        yield Check(
            f"prefetch of {each.queue!r}",
            "warning",
            f"{each.waiting} of {each.unacked} deliveries wait in a worker with concurrency "
            f"{each.concurrency} and prefetch {each.prefetch}, which ends {pace}: no other worker "
            "can take them",
            f"--prefetch {each.concurrency}, as many as run at once",
        )


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
    prefetch = settings.prefetch_for(settings.concurrency)
    checks = [
        Check(f"job {problem.job!r}", "warning", problem.finding, problem.fix)
        for queue in app.queues.values()
        for problem in holding_of(
            app.client.runtime,
            queue,
            profile,
            concurrency=settings.concurrency,
            held=1 if queue.singleton else prefetch * len(lanes_of(queue)),
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
