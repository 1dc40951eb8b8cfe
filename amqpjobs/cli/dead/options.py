"""Options of the commands on dead letters. Changes when an option does."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import seconds_of

if TYPE_CHECKING:
    from amqpjobs.app import App
    from amqpjobs.client.deadletters import DeadLetters, Selection

WhichArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Ids of jobs, or how they begin, or ids of groups.", show_default=False),
]
OneArgument = Annotated[
    str, typer.Argument(help="The job's id, or how it begins.", show_default=False)
]
QueuesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Names of queues; default: all queues of the app.", show_default=False),
]
QueuesOption = Annotated[
    list[str] | None,
    typer.Option("--queue", "-q", help="Only of this queue; again for more.", show_default=False),
]
JobOption = Annotated[str | None, typer.Option("--job", help="Only of this job.")]
ReasonOption = Annotated[
    str | None, typer.Option("--reason", help="Only with this reason, such as failed or invalid.")
]
ExceptionOption = Annotated[
    str | None, typer.Option("--exception", help="Only with this exception: ValueError.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", help="Only from this time on: 2026-01-31T12:00 (UTC), or 2h ago."),
]
UntilOption = Annotated[str | None, typer.Option("--until", help="Only from before this time.")]
AllOption = Annotated[bool, typer.Option("--all", help="Select all of them.")]
ParkedOption = Annotated[
    bool, typer.Option("--parked", help="Parked jobs (unknown to the workers) instead.")
]
UnroutableOption = Annotated[
    bool, typer.Option("--unroutable", help="Delayed jobs whose queue was missing, instead.")
]
ToOption = Annotated[
    str | None, typer.Option("--to", help="Send to this AMQP queue.", show_default=False)
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]


def bench_of(
    app: "App", queues: list[str] | None, *, parked: bool, unroutable: bool
) -> "DeadLetters":
    """The letters that a command is about.

    Raises:
        ConfigurationError: both at once, or a queue that the app does not have.
    """
    if parked and unroutable:
        raise ConfigurationError("--parked or --unroutable, one at a time")
    kind = "parked" if parked else "unroutable" if unroutable else "dead"
    return app.dead_letters(*(queues or ()), kind=kind)  # type: ignore[arg-type]


def word_of(*, parked: bool, unroutable: bool) -> str:
    """What they are called."""
    return "parked jobs" if parked else "unroutable jobs" if unroutable else "dead letters"


def selection_of(
    which: list[str] | None,
    job: str | None,
    reason: str | None,
    exception: str | None,
    since: str | None,
    until: str | None,
) -> "Selection":
    """Which letters.

    Raises:
        ConfigurationError: a time that is none.
    """
    from amqpjobs.client.deadletters import Selection

    now = time.time()
    return Selection(
        tuple(which or ()), job, reason, exception,
        _time("--since", since, now), _time("--until", until, now),
    )  # fmt: skip


def require_choice(selection: "Selection", everything: bool) -> None:
    """Nobody means all letters by saying nothing.

    Raises:
        ConfigurationError: it was not said which, or two things at once.
    """
    if selection.chooses == everything:
        raise ConfigurationError(
            "--all, or some of them: not both"
            if everything
            else "which ones? Give the id of a job or a group, --job, --reason, --exception, "
            "--since, --until, or --all"
        )


def _time(name: str, text: str | None, now: float) -> float | None:
    if text is None:
        return None
    before = text.removesuffix(" ago").strip()
    # Digits alone are a date of ISO 8601, such as 20260131.
    if (seconds := None if before.isdigit() else seconds_of(before)) is not None:
        return now - seconds
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{name} {text!r}: write a time such as 2026-01-31T12:00 (UTC, unless it says "
            "otherwise), or how long ago, such as 30m, 2h or 7d"
        ) from None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
