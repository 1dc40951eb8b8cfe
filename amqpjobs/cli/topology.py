"""``amqpjobs topology``: what the app needs on the broker. Changes when looking at it does."""

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from amqpjobs.cli.loading import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.output import print_json, print_rows

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.rabbitmq.declaration import Finding

group = typer.Typer(help="Show, apply or check the queues and exchanges.", no_args_is_help=True)


@group.command()
def show(app: AppOption = None, as_json: JsonOption = False) -> None:
    """Show what the app declares. Needs no broker."""
    rows = rows_of(load_app(app))
    print_rows(rows, ("kind", "name", "arguments"), as_json=as_json, empty="nothing to declare")


@group.command()
def apply(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Declare what is missing. Deletes and changes nothing; a difference is an error."""
    loaded = load_app(app, url=url)
    asyncio.run(_apply(loaded))
    if as_json:
        print_json(rows_of(loaded))
    else:
        typer.echo(f"applied: {len(rows_of(loaded))} declarations")


@group.command()
def check(app: AppOption = None, as_json: JsonOption = False, url: UrlOption = None) -> None:
    """Compare the broker with what the app declares; exit with 1 if they differ."""
    loaded = load_app(app, url=url)
    findings = asyncio.run(_check(loaded))
    rows = [
        {"entity": f.entity, "state": f.state, "difference": f.difference or None} for f in findings
    ]
    print_rows(rows, ("entity", "state", "difference"), as_json=as_json, empty="nothing declared")
    if any(f.state in ("missing", "different") for f in findings):
        raise typer.Exit(1)


async def _apply(app: "App") -> None:
    from amqpjobs.rabbitmq.declaration import Declarer
    from amqpjobs.rabbitmq.inspection import connected

    async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
        await declarer.apply(app.topology)


async def _check(app: "App") -> "list[Finding]":
    from amqpjobs.rabbitmq.declaration import Declarer
    from amqpjobs.rabbitmq.inspection import connected

    async with connected(app.settings, "declare") as wire, Declarer(wire) as declarer:
        return await declarer.check(app.topology)


def rows_of(app: "App") -> list[dict[str, Any]]:
    """The declarations, in the order in which they are made."""
    topology = app.topology
    rows: list[dict[str, Any]] = [
        {"kind": "exchange", "name": e.name, "arguments": {"type": e.type, **e.arguments}}
        for e in topology.exchanges
    ]
    rows += [
        {"kind": "queue", "name": q.name, "arguments": dict(q.arguments)} for q in topology.queues
    ]
    rows += [
        {
            "kind": "binding",
            "name": b.target,
            "arguments": {"exchange": b.exchange, "routing_key": b.routing_key},
        }
        for b in topology.bindings
    ]
    return rows
