"""``amqpjobs schedules``: when jobs are sent by themselves, and operating that.

Changes when an operator can do something else with a schedule.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, load_app
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import RED, YELLOW, agrees, print_json, print_rows, say, shown
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.schedule.dues import dues_between, next_after
from amqpjobs.jobs.schedule.status import ScheduleStatus
from amqpjobs.jobs.schedule.words import words_of
from amqpjobs.jobs.zones import zone_named

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.jobs.schedule.status import TickRecord

T = TypeVar("T")

group = typer.Typer(
    help="Look at schedules, pause them, and send their jobs now.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="The schedule's name.", show_default=False)]
StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Before AMQPJOBS_STORE_URL.", show_default=False),
]

COLUMNS = ("name", "when", "next", "last", "outcome", "note")

NOT_SEEN = "no process has run with it yet"
UNSTORED = "no store: usually once, and nothing missed is made up for"


@group.command("list")
def list_(app: AppOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show all schedules: when they are due, and what became of it.

    Times are those of the schedule's zone.
    """
    loaded = load_app(app, store_url=store)
    found = _run(loaded, lambda: _all(loaded))
    rows = [row_of(status, as_json=as_json) for status in found]
    print_rows(rows, COLUMNS, as_json=as_json, empty="there are no schedules", mark=_mark)
    if found and not _is_stored(loaded):
        say(f"amqpjobs: {UNSTORED}; a store is set by AMQPJOBS_STORE_URL")


@group.command()
def show(
    name: NameArgument,
    app: AppOption = None,
    ticks: Annotated[int, typer.Option("--ticks", min=0, help="Times to show, at most.")] = 10,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one schedule, and what became of its last times."""
    loaded = load_app(app, store_url=store)

    async def look() -> "tuple[ScheduleStatus, list[TickRecord]]":
        status = _one(await _all(loaded), name)
        stored = _is_stored(loaded) and _store_is_there(loaded)
        return status, [*await loaded.schedules.ticks(name, ticks)] if stored else []

    status, found = _run(loaded, look)
    row = row_of(status, as_json=as_json)
    rows = [_tick_row(status, tick) for tick in found]
    if as_json:
        print_json(row | {"ticks": rows})
        return
    for key, value in row.items():
        if value is not None:
            typer.echo(f"{key:8} {shown(value)}")
    if rows:
        typer.echo()
        print_rows(rows, ("due", "how", "outcome", "reason", "job_id"), as_json=False, empty="")


@group.command("next")
def next_(
    name: NameArgument,
    app: AppOption = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=1000, help="How many.")] = 5,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show when a schedule is due next."""
    loaded = load_app(app, store_url=store)
    status = _run(loaded, lambda: _all(loaded))
    found = _one(status, name)
    dues: list[float] = []
    if found.schedule is not None and found.next is not None:
        dues = dues_between(found.schedule, found.next - 1, float("inf"), count)
    times = [_local(found, due) for due in dues]
    if as_json:
        print_json(times)
    elif times:
        typer.echo("\n".join(map(str, times)))
    else:
        say(f"{name}: never" + (", it is paused" if found.paused else ""))


@group.command()
def pause(
    name: NameArgument,
    app: AppOption = None,
    note: Annotated[
        str | None, typer.Option("--note", help="Why, for others to see.", show_default=False)
    ] = None,
    for_: Annotated[
        float | None,
        duration_option("--for", "Resume by itself after this time.", least=1, most=LONGEST_DELAY),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Resume at this time: 2027-01-31T12:00.")
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send nothing of a schedule. What is due meanwhile is not made up for."""
    if for_ is not None and until is not None:
        raise ConfigurationError("--for or --until, one at a time")
    loaded = load_app(app, store_url=store)

    async def change() -> ScheduleStatus:
        zone = UTC if until is None else await _zone_of(loaded, name)
        end = for_ if until is None else _time("--until", until, zone)
        return await loaded.schedules.pause(name, note=note, until=end)

    status = _run(loaded, change)
    end = "" if status.paused_until is None else f" until {_local(status, status.paused_until)}"
    _report(status, f"paused{end}", as_json=as_json)


@group.command()
def resume(
    name: NameArgument,
    app: AppOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a schedule that is paused, from now."""
    loaded = load_app(app, store_url=store)
    status = _run(loaded, lambda: loaded.schedules.resume(name))
    _report(status, f"resumed, next at {_local(status, status.next) or 'no time'}", as_json=as_json)


@group.command()
def run(
    name: NameArgument,
    app: AppOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the job of a schedule now, beside its times."""
    loaded = load_app(app, store_url=store)
    handle = _run(loaded, lambda: loaded.schedules.run_now(name), send=True)
    if as_json:
        print_json({"name": name, "job": handle.job, "job_id": handle.id, "queue": handle.queue})
    else:
        typer.echo(handle.id)


@group.command()
def backfill(
    name: NameArgument,
    start: Annotated[str, typer.Argument(help="From this time on: 2027-01-31T12:00.")],
    end: Annotated[str, typer.Argument(help="Until this time; what is to come is left out.")],
    app: AppOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send the jobs for times that have passed and were not sent. Twice is once.

    Times are those of the schedule's zone, unless they say otherwise.
    """
    loaded = load_app(app, store_url=store)

    async def send() -> list[str]:
        zone = await _zone_of(loaded, name)
        begin, until = _time("START", start, zone), _time("END", end, zone)
        return [each.id for each in await loaded.schedules.backfill(name, begin, until)]

    ids = _run(loaded, send, send=True)
    if as_json:
        print_json({"name": name, "job_ids": ids})
    else:
        say(f"{name}: {len(ids)} sent")
        typer.echo("\n".join(ids), nl=bool(ids))


@group.command()
def remove(
    name: NameArgument,
    app: AppOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Forget a schedule that was put at run time. Asks for confirmation."""
    loaded = load_app(app, store_url=store)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to remove without confirmation")
        if not agrees(f"Forget the schedule {name!r} and its history?", default=False):
            say("nothing was removed")
            raise typer.Exit(1)
    removed = _run(loaded, lambda: loaded.schedules.remove(name))
    if as_json:
        print_json({"name": name, "removed": removed})
    else:
        say(f"{name}: {'removed' if removed else 'was not there'}")


def row_of(status: ScheduleStatus, *, as_json: bool = False) -> dict[str, Any]:
    """One schedule, for a table or for programs."""
    last = status.last
    row = {
        "name": status.name,
        "job": status.job,
        "when": status.words,
        "next": _local(status, status.next),
        "last": None if last is None else _local(status, last.due),
        "outcome": _outcome(status),
        "note": "; ".join(_notes(status)) or None,
    }
    if not as_json:
        return row
    return row | {
        "in_code": status.in_code,
        "tz": status.tz,
        "overlap": None if status.schedule is None else status.schedule.overlap,
        "missed": None if status.schedule is None else status.schedule.missed,
        "how": None if last is None else last.how,
        "tick": None if last is None else last.outcome,
        "reason": None if last is None else last.reason,
        "job_id": None if last is None else last.job_id,
        "job_state": status.job_state,
        "running": status.running,
        "running_until": _local(status, status.running_until),
        "paused": status.paused,
        "paused_until": _local(status, status.paused_until),
        "paused_note": status.note,
        "retired": status.retired,
        "problem": status.problem,
    }


def _outcome(status: ScheduleStatus) -> str | None:
    """What became of the last time: the state of its job, if that is known."""
    last = status.last
    if last is None:
        return None
    said = last.outcome if last.how == "cron" else f"{last.outcome} ({last.how})"
    return f"{said}, {status.job_state}" if status.job_state and last.outcome == "sent" else said


def _notes(status: ScheduleStatus) -> Iterable[str]:
    if status.problem is not None:
        yield status.problem
    if status.retired:
        yield "gone from the code"
    if status.paused:
        end = _local(status, status.paused_until)
        note = f": {status.note}" if status.note else ""
        yield f"paused until {end}{note}" if end else f"paused{note}"
    if status.last is not None and status.last.reason is not None:
        yield status.last.reason


def _tick_row(status: ScheduleStatus, tick: "TickRecord") -> dict[str, Any]:
    return {
        "due": _local(status, tick.due), "how": tick.how, "outcome": tick.outcome,
        "reason": tick.reason, "job_id": tick.job_id,
    }  # fmt: skip


def _local(status: ScheduleStatus, moment: float | None) -> str | None:
    """A time as clocks in the schedule's zone show it, with the offset."""
    if moment is None:
        return None
    return status.time_of(moment).isoformat(sep=" ", timespec="seconds")


def _mark(column: str, row: Mapping[str, Any]) -> str | None:
    if column == "outcome" and str(row["outcome"]).startswith("skipped"):
        return YELLOW
    return RED if column == "outcome" and str(row["outcome"]).endswith("failed") else None


def _report(status: ScheduleStatus, words: str, *, as_json: bool) -> None:
    if as_json:
        print_json(row_of(status, as_json=True))
    else:
        say(f"{status.name}: {words}")


def _is_stored(app: "App") -> bool:
    from amqpjobs.state.schedules.mechanism import Mechanism, mechanism_of

    return mechanism_of(app.settings) is not Mechanism.QUEUE


def _store_is_there(app: "App") -> bool:
    """SQLite makes a file by being asked, and looking should not."""
    from amqpjobs.state.store.engine import store_exists

    return store_exists(app.settings)


async def _all(app: "App") -> list[ScheduleStatus]:
    """Those of the store, and those of the code that are not there."""
    stored = _is_stored(app)
    found = await app.schedules.list() if stored and _store_is_there(app) else []
    known, now = {status.name for status in found}, time.time()
    for name, declared in registry_of(app).schedules.items():
        if name not in known:
            schedule = declared.schedule
            found.append(
                ScheduleStatus(
                    name,
                    declared.job,
                    schedule,
                    words_of(schedule),
                    True,
                    next_after(schedule, now),
                    problem=NOT_SEEN if stored else None,
                )
            )
    return sorted(found, key=lambda status: status.name)


def _one(found: list[ScheduleStatus], name: str) -> ScheduleStatus:
    for status in found:
        if status.name == name:
            return status
    there = [status.name for status in found]
    listed = ", ".join(there[:20]) or "none"
    raise ConfigurationError(
        f"there is no schedule {name!r}; there are: {listed}{did_you_mean(name, there)}"
    )


async def _zone_of(app: "App", name: str) -> tzinfo:
    return zone_named(_one(await _all(app), name).tz) or UTC


def _time(what: str, text: str, zone: tzinfo) -> datetime:
    """A time that a person has written: with its offset, or as clocks in that zone show it."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{what} {text!r} is not a time of ISO 8601, such as 2027-01-31T12:00"
        ) from None
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _run(app: "App", work: Callable[[], Awaitable[T]], *, send: bool = False) -> T:
    """Run it, and close what it has opened.

    Args:
        send: also what it has put into the outbox, as far as RabbitMQ is there.
    """

    async def whole() -> T:
        from amqpjobs.errors import AmqpJobsError
        from amqpjobs.state.memory import memory_of

        try:
            result = await work()
            if send:
                try:
                    await memory_of(app.client).send()
                except AmqpJobsError as error:
                    say(f"amqpjobs: stored; it is sent when RabbitMQ is back: {error}")
            return result
        finally:
            await app.close()

    return asyncio.run(whole())
