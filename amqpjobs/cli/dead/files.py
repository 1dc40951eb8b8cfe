"""``amqpjobs dead export`` and ``dead import``: dead letters as lines of JSON."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, UrlOption, load_app
from amqpjobs.cli.dead.options import (
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
    selection_of,
)
from amqpjobs.cli.dead.running import work
from amqpjobs.cli.new_file import new_file
from amqpjobs.errors import ConfigurationError


def export(
    which: WhichArgument = None,
    app: AppOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this new file.", show_default=False),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove from the queue what is safely in the file.")
    ] = False,
    queues: QueuesOption = None,
    job: JobOption = None,
    reason: ReasonOption = None,
    exception: ExceptionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    parked: ParkedOption = False,
    unroutable: UnroutableOption = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Export dead letters whole, as lines of JSON.

    To stdout, or to a new file. `dead import` brings them back. With --json, and a file, the counts
    are JSON.
    """
    if output is None and (remove or as_json):
        raise ConfigurationError("--remove and --json need a file: --output FILE")
    bench = bench_of(load_app(app, url=url), queues, parked=parked, unroutable=unroutable)
    selection = selection_of(which, job, reason, exception, since, until)
    with _target(output) as out:
        work(
            "export",
            "exported and taken out" if remove else "exported",
            lambda tell: bench.export(selection, out, remove=remove, on_progress=tell),
            as_json=as_json,
            to_stdout=output is not None,
        )


def import_(
    file: Annotated[str, typer.Argument(help="The file, or - for standard input.")],
    app: AppOption = None,
    to: ToOption = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
) -> None:
    """Import exported dead letters into the queues they came from.

    Every line is checked before the first is sent, and each is confirmed.
    """
    bench = bench_of(load_app(app, url=url), None, parked=False, unroutable=False)
    with _source(file) as lines:
        work(
            "import",
            "imported",
            lambda tell: bench.import_lines(lines, to=to, on_progress=tell),
            as_json=as_json,
        )


@contextmanager
def _target(output: Path | None) -> Iterator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with new_file(output) as file:
        yield file


@contextmanager
def _source(file: str) -> Iterator[BinaryIO]:
    """A file that can be read twice."""
    if file != "-":
        try:
            opened = Path(file).open("rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise ConfigurationError(f"{file!r} cannot be read: {error.strerror}") from None
        with opened:
            yield opened
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.seek(0)
        yield kept
