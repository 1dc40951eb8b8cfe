"""Runs long commands on dead letters: progress, Ctrl-C, and the final report.

Changes when the report does.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

import typer

from amqpjobs.cli.output import print_json, say, text_column
from amqpjobs.errors import AmqpJobsError
from amqpjobs.telemetry.safe_text import printable

if TYPE_CHECKING:
    from amqpjobs.client.deadletters import Moved

Form = Literal["text", "json", "stderr"]

Operation = Callable[["Callable[[Moved], None]"], Coroutine[Any, Any, "Moved"]]
"""Called with what is to be told of its progress."""


def work(
    verb: str,
    done: str,
    operation: Operation,
    *,
    as_json: bool,
    dry_run: bool = False,
    to_stdout: bool = True,
) -> None:
    """Run an operation, and say what came of it.

    Ctrl-C ends it in order: what was sent is confirmed and taken out, all else stays.

    Args:
        verb: such as ``replay``.
        done: such as ``replayed``.
        to_stdout: whether stdout is for what was done; else it is taken.

    Raises:
        typer.Exit: 130 after Ctrl-C; 1 if not all was done.
        AmqpJobsError: it could not go on; what was done before is said.
    """
    moved = _Last()
    form: Form = "json" if as_json else "text" if to_stdout else "stderr"
    # What stands in the way is said in the end, and not in a log.
    logging.getLogger("amqpjobs").setLevel(logging.CRITICAL)
    try:
        with progress(verb, moved):
            moved.value = asyncio.run(operation(moved.set))
    except KeyboardInterrupt:
        report(moved.value, done, form, interrupted=True)
        raise typer.Exit(130) from None
    except (AmqpJobsError, OSError):
        if moved.value is not None:
            report(moved.value, done, form, interrupted=True)
        raise
    report(moved.value, f"would be {done}" if dry_run else done, form, dry_run=dry_run)
    value = moved.value
    if value.failed or value.doubtful or value.stopped or value.missing or value.absent:
        raise typer.Exit(1)


class _Last:
    """The last that was heard of an operation."""

    def __init__(self) -> None:
        self.value: Any = None
        self.shown: Callable[[Moved], None] | None = None

    def set(self, moved: "Moved") -> None:
        self.value = moved
        if self.shown is not None:
            self.shown(moved)


@contextmanager
def progress(verb: str, last: _Last) -> Iterator[None]:
    """Show it on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TimeElapsedColumn

    columns = (
        text_column("{task.description}"), BarColumn(), text_column("{task.fields[done]} done, "
        "{task.completed:.0f} of {task.total:.0f} seen"), TimeElapsedColumn(),
    )  # fmt: skip
    people = Console(stderr=True, markup=False, emoji=False)
    with Progress(*columns, console=people, transient=True) as shown:
        task = shown.add_task(verb, total=0, done=0)

        def show(moved: "Moved") -> None:
            seen = min(moved.seen, moved.total)
            shown.update(task, completed=seen, total=moved.total, done=moved.done)

        last.shown = show
        yield


def report(
    moved: "Moved | None",
    done: str,
    form: Form,
    *,
    interrupted: bool = False,
    dry_run: bool = False,
) -> None:
    """What was done, on stdout unless that is taken; what was not, on stderr."""
    if moved is None:
        if interrupted:
            say("interrupted before anything was done")
        return
    if form == "json":
        told: dict[str, Any] = {f.name: getattr(moved, f.name) for f in fields(moved)}
        told["unseen"] = [str(unseen) for unseen in moved.unseen]
        print_json(told | {"interrupted": interrupted, "dry_run": dry_run})
    else:
        targets = ", ".join(f"{printable(k)} {n}" for k, n in sorted(moved.targets.items()))
        stream = sys.stdout if form == "text" else sys.stderr
        stream.write(f"{moved.done} {done}{f' ({targets})' if targets else ''}\n")
    if interrupted:
        say("interrupted: all else is where it was")
    if moved.refused is not None:
        say(f"line {moved.refused} is the first that was not taken: go on with that")
    for line in problems(moved):
        say(f"amqpjobs: {line}")


def problems(moved: "Moved") -> list[str]:
    """What is not as it should be, in sentences."""
    found = [f"{count} stayed: {printable(text)}" for text, count in moved.errors.items()]
    if moved.stopped:
        found.append("RabbitMQ took no more, and the rest was not tried")
    if moved.doubtful:
        found.append(
            f"{moved.doubtful} were sent when the connection was lost, and may be here still"
        )
    found += [f"no {printable(name)} here" for name in moved.missing]
    found += [f"there is no queue {name!r} on the broker" for name in moved.absent]
    found += [str(unseen) for unseen in moved.unseen]
    return found
