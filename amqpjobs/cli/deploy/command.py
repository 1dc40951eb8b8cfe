"""``amqpjobs deploy``: manifests for Kubernetes. Changes when a person can say something new."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from amqpjobs.cli.app_option import AppOption, JsonOption, load_app
from amqpjobs.cli.deploy import Timed, files_of, plan_of
from amqpjobs.cli.duration_option import duration_option
from amqpjobs.cli.output import print_json, say
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY

if TYPE_CHECKING:
    from amqpjobs.cli.deploy.folder import Written
    from amqpjobs.cli.deploy.plan import How
    from amqpjobs.cli.deploy.rendering import Files

group = typer.Typer(help="Write manifests for Kubernetes.", no_args_is_help=True)

Repeated = list[str] | None


@group.command()
def render(
    image: Annotated[
        str, typer.Option("--image", help="Image of all pods: registry.example/photos:1.4.0")
    ],
    app: AppOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Folder to write to; default: stdout."),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", help="Else the one that kubectl uses.")
    ] = None,
    asgi: Annotated[
        str | None,
        typer.Option("--asgi", help="Your own application beside the API: package.module:api"),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", min=1, help="Jobs at once in each worker.")
    ] = None,
    prefetch: Annotated[
        int | None, typer.Option("--prefetch", min=1, help="Deliveries held of each queue.")
    ] = None,
    shutdown_timeout: Annotated[
        float | None,
        duration_option("--shutdown-timeout", "From SIGTERM to the end."),
    ] = None,
    longest_delay: Annotated[
        float | None,
        duration_option(
            "--longest-delay",
            "What delays must reach, as pods cannot add to them; by default the longest pause of "
            "the app's retries.",
            most=LONGEST_DELAY,
        ),
    ] = None,
    enqueue: Annotated[
        Repeated,
        typer.Option(
            "--enqueue",
            metavar="JOB=SCHEDULE[=JSON]",
            help="Enqueue a job by the clock: 'tidy=15 3 * * *', and its arguments behind that.",
        ),
    ] = None,
    run: Annotated[
        Repeated,
        typer.Option(
            "--run",
            metavar="JOB=SCHEDULE[=JSON]",
            help="The same, run in its own pod instead of by a worker.",
        ),
    ] = None,
    env: Annotated[
        Repeated, typer.Option("--env", metavar="NAME=VALUE", help="A setting of all pods.")
    ] = None,
    claim: Annotated[
        Repeated,
        typer.Option(
            "--claim", metavar="NAME:PATH", help="A PersistentVolumeClaim to mount in all pods."
        ),
    ] = None,
    egress: Annotated[
        list[int] | None,
        typer.Option(
            "--egress", metavar="PORT", min=1, max=65535, help="A TCP port that jobs connect to."
        ),
    ] = None,
    ingress: Annotated[
        list[int] | None,
        typer.Option(
            "--ingress",
            metavar="PORT",
            min=1,
            max=65535,
            help="A TCP port of all pods that others may connect to.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite edited files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a kustomize base and overlays for the app's queues.

    To review and to commit. What it knows from the app: the queues, their priorities and jobs. It
    asks neither RabbitMQ nor a cluster, and writes no secret. The same app and options give the
    same files.
    """
    loaded = load_app(
        app, concurrency=concurrency, prefetch=prefetch, shutdown_timeout=shutdown_timeout
    )
    plan = plan_of(
        loaded, app or "", image,
        asgi=asgi,
        namespace=namespace,
        timed=[*_timed("enqueue", enqueue), *_timed("run", run)],
        environment=dict(_pairs("--env", "=", env)),
        claims=dict(_pairs("--claim", ":", claim)),
        egress=egress or (),
        ingress=ingress or (),
        longest_delay=longest_delay,
    )  # fmt: skip
    _out(files_of(plan), output, force=force, as_json=as_json)


def _out(files: "Files", output: Path | None, *, force: bool, as_json: bool) -> None:
    if output is None and as_json:
        print_json({path: [m.body for m in manifests] for path, manifests in files.items()})
        return
    # Here, since YAML is not needed for JSON.
    from amqpjobs.cli.deploy.folder import texts_of, write

    if output is None:
        sys.stdout.write("---\n".join(f"# {p}\n{text}" for p, text in texts_of(files).items()))
        return
    done = write(output, files, force=force)
    if as_json:
        print_json({"folder": str(output.absolute()), **asdict(done)})
    else:
        _tell(output, done)


def _tell(output: Path, done: "Written") -> None:
    lines = [f"{output / path} is written" for path in done.written]
    lines.append(f"{len(done.unchanged)} files are as they were")
    sys.stdout.write("\n".join(lines) + "\n")
    for path in done.kept:
        say(f"{output / path} is yours, and was left as it is (--force overwrites it)")
    for path in done.left:
        say(f"{output / path} is no longer used: remove it")


def _timed(how: "How", given: Iterable[str] | None) -> Iterator[Timed]:
    for text in given or ():
        job, _, rest = text.partition("=")
        schedule, _, arguments = rest.partition("=")
        yield Timed(how, job.strip(), schedule.strip(), arguments.strip() or "{}")


def _pairs(option: str, between: str, given: Iterable[str] | None) -> Iterator[tuple[str, str]]:
    for text in given or ():
        name, found, value = text.partition(between)
        if not found:
            raise ConfigurationError(f"{option} {text!r}: write NAME{between}VALUE")
        yield name, value
