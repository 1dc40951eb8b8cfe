"""``amqpjobs doctor``: checks a deployment; each finding comes with its fix.

Changes when another part is checked.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from amqpjobs.broker.rabbitmq.profile import EMBEDDED
from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.doctor import broker, here
from amqpjobs.cli.doctor.check import Check
from amqpjobs.cli.doctor.cluster import cluster
from amqpjobs.cli.doctor.foreign import bindings, foreign
from amqpjobs.cli.doctor.management import management
from amqpjobs.cli.output import RED, YELLOW, print_rows

if TYPE_CHECKING:
    from amqpjobs.app import App


def doctor(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Check the deployment; each finding comes with its fix.

    It connects, and looks at version, cluster, permissions, queues, replicas, bindings, timeouts,
    clock, limits, the store, the outbox, the databases of jobs with once=, and the schedules.
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
    from amqpjobs.state.examination.schedules import examine_schedules
    from amqpjobs.state.examination.whole import examine

    async with connected(app.settings, "doctor") as wire:
        checks = [broker.version(wire), broker.connection(wire, app.settings)]
        checks += broker.limits(wire, app)
        checks += [check async for check in broker.permissions(wire)]
        checks += [check async for check in broker.queues(app, wire)]
        checks += [check async for check in foreign(app, wire)]
        checks.append(await broker.unroutable(wire))
        checks += [check async for check in broker.holds(wire)]
        if wire.profile.product != EMBEDDED:
            checks += await asyncio.to_thread(management, app)
            checks += await asyncio.to_thread(cluster, app)
            checks += await asyncio.to_thread(bindings, app)
        checks += [Check(*finding) for finding in await examine(app.client)]
        checks += [Check(*finding) for finding in await examine_schedules(app.client)]
        checks += [here.clock(), *here.timeouts(app, wire.profile)]
        checks += [here.files(app), *here.transport(app)]
    return checks
