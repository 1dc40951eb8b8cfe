"""``amqpjobs dead replay`` and ``dead discard``: the commands that remove dead letters."""

import asyncio
import sys
from typing import Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.dead.options import (
    AllOption,
    DryRunOption,
    ExceptionOption,
    JobOption,
    ParkedOption,
    QueuesOption,
    ReasonOption,
    SinceOption,
    ToOption,
    UnroutableOption,
    UntilOption,
    WhichArgument,
    bench_of,
    require_choice,
    selection_of,
    word_of,
)
from amqpjobs.cli.dead.running import work
from amqpjobs.cli.output import agrees, say
from amqpjobs.errors import ConfigurationError


def replay(
    which: WhichArgument = None,
    app: AppOption = None,
    queues: QueuesOption = None,
    job: JobOption = None,
    reason: ReasonOption = None,
    exception: ExceptionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: AllOption = False,
    to: ToOption = None,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.001, help="At most so many per second.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STEP", help="For durable jobs: run this step and later ones again."
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="For durable jobs: run all steps again.")
    ] = False,
    dry_run: DryRunOption = False,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Requeue dead letters, each with all of its attempts again.

    A durable job resumes where it failed, unless --from or --restart is given.
    Each is published, confirmed, and only then taken out. Ctrl-C ends it in order, and the same
    command goes on.
    """
    bench = bench_of(load_app(app, url=url), queues, parked=parked, unroutable=unroutable)
    selection = selection_of(which, job, reason, exception, since, until)
    require_choice(selection, everything)
    work(
        "replay",
        "replayed",
        lambda tell: bench.replay(
            selection,
            to=to,
            rate=rate,
            dry_run=dry_run,
            from_step=from_,
            restart=restart,
            on_progress=tell,
        ),
        as_json=as_json,
        dry_run=dry_run,
    )


def discard(
    which: WhichArgument = None,
    app: AppOption = None,
    queues: QueuesOption = None,
    job: JobOption = None,
    reason: ReasonOption = None,
    exception: ExceptionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: AllOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    dry_run: DryRunOption = False,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Discard dead letters for good. Asks for confirmation."""
    bench = bench_of(load_app(app, url=url), queues, parked=parked, unroutable=unroutable)
    selection = selection_of(which, job, reason, exception, since, until)
    require_choice(selection, everything)
    limit: int | None = None
    if not (yes or dry_run):
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise ConfigurationError("not a terminal: pass --yes to discard without confirmation")
        limit = asyncio.run(bench.discard(selection, dry_run=True)).done
        what = word_of(parked=parked, unroutable=unroutable)
        if limit and not agrees(f"Throw {limit} {what} away, for good?", default=False):
            say("nothing was discarded")
            raise typer.Exit(1)
    work(
        "discard",
        "discarded",
        lambda tell: bench.discard(selection, limit=limit, dry_run=dry_run, on_progress=tell),
        as_json=as_json,
        dry_run=dry_run,
    )
