"""From an app and what a person says to a plan; what Kubernetes would refuse is refused here.

Changes when a person can say something new about a deployment.
"""

import json
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from amqpjobs.cli.deploy.plan import How, Plan, Timed, Work
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.worker.flow.token_bucket import prefetch_of

if TYPE_CHECKING:
    from amqpjobs.app import App

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE = re.compile(r"[\w][\w./:@-]*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIELD = re.compile(r"[\w*/,?#-]+", re.ASCII)

SECRET = re.compile(r"URL|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE|HEADERS", re.I)
"""Variables whose values nobody wants in a repository."""

MACROS = frozenset(
    {"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"}
)


TAKEN = frozenset({"tmp", "secrets"})
"""Volumes of every pod."""


def plan_of(
    app: "App",
    place: str,
    image: str,
    *,
    asgi: str | None = None,
    namespace: str | None = None,
    timed: Iterable[Timed] = (),
    environment: Mapping[str, str] = MappingProxyType({}),
    claims: Mapping[str, str] = MappingProxyType({}),
    egress: Iterable[int] = (),
    ingress: Iterable[int] = (),
    longest_delay: float | None = None,
) -> Plan:
    """A plan of an app and its settings. Needs no broker.

    Raises:
        ConfigurationError: what Kubernetes, or the app, would not take; says what to write.
    """
    app.check()
    if not app.queues:
        raise ConfigurationError(f"app {app.name!r} has no jobs, so there is nothing to deploy")
    if not _IMAGE.fullmatch(image):
        raise ConfigurationError(
            f"--image {image!r} is no image: write registry.example/photos:1.4.0"
        )
    if namespace is not None and not _LABEL.fullmatch(namespace):
        raise ConfigurationError(
            f"--namespace {namespace!r} is no namespace: small letters, digits and '-', up to 63"
        )
    settings = app.settings
    prefetch = settings.prefetch_for(settings.concurrency)
    return Plan(
        app.name, place, image, asgi, namespace, settings.concurrency, settings.prefetch,
        settings.shutdown_timeout, tuple(_work(app, q, prefetch) for q in app.queues.values()),
        _all_checked(app, timed),
        MappingProxyType({name: _value(name, value) for name, value in environment.items()}),
        MappingProxyType({name: _path(name, path) for name, path in claims.items()}),
        tuple(sorted(set(egress))), longest_delay,
        tuple(sorted(hook.variable for hook in registry_of(app).hooks.values())),
        tuple(sorted(set(ingress))),
    )  # fmt: skip


def _work(app: "App", queue: Queue, prefetch: int) -> Work:
    jobs = [job for job in app.jobs.values() if job.queue is queue]
    limits = [job.timeout for job in jobs]
    known = [limit for limit in limits if limit is not None]
    return Work(
        queue.name,
        MappingProxyType(
            {lane.queue: prefetch_of(queue, lane, prefetch) for lane in lanes_of(queue)}
        ),
        tuple(sorted(job.name for job in jobs)),
        max(known) if known and len(known) == len(limits) else None,
        queue.rate,
        queue.singleton,
    )


def _all_checked(app: "App", timed: Iterable[Timed]) -> tuple[Timed, ...]:
    found: dict[tuple[How, str], Timed] = {}
    for each in timed:
        if (each.how, each.job) in found:
            raise ConfigurationError(
                f"--{each.how} {each.job}: it has a schedule already; cron takes several hours, or "
                "days, in one: '15 3,15 * * *'"
            )
        found[each.how, each.job] = _checked(app, each)
    return tuple(found.values())


def _checked(app: "App", timed: Timed) -> Timed:
    definition = registry_of(app).find(timed.job)
    said = f"--{timed.how} {timed.job}={timed.schedule}"
    fields = timed.schedule.split()
    if timed.schedule not in MACROS and not (
        len(fields) == 5 and all(_FIELD.fullmatch(field) for field in fields)
    ):
        raise ConfigurationError(
            f"{said}: {timed.schedule!r} is no schedule of cron: write five fields, such as "
            "'15 3 * * *' for every day at 03:15 UTC"
        )
    try:
        definition.payload.load_json(timed.arguments.encode())
    except DecodeError as error:
        raise ConfigurationError(
            f"{said}: the arguments do not fit: {error}. Write them behind the schedule, as in a "
            f"message: '{timed.job}={timed.schedule}=JSON'"
        ) from error
    # On one line, as it stands in the command that is written down.
    arguments = json.dumps(json.loads(timed.arguments), ensure_ascii=False)
    return Timed(timed.how, timed.job, " ".join(fields), arguments, definition.timeout)


def _value(name: str, value: str) -> str:
    if not _VARIABLE.fullmatch(name):
        raise ConfigurationError(f"--env {name!r} is no name of a variable")
    if SECRET.search(name):
        raise ConfigurationError(
            f"--env {name}: this looks like a secret, and would stand in the manifests: put it "
            "into the Secret, as a file of that name"
        )
    if not value.isprintable() or value[:1] in ("'", '"'):
        raise ConfigurationError(f"--env {name}: a value of one line, and without quotes around it")
    return value


def _path(name: str, path: str) -> str:
    if name in TAKEN:
        raise ConfigurationError(
            f"--claim {name}: this is a volume of every pod: call it otherwise"
        )
    if not _LABEL.fullmatch(name) or not path.startswith("/") or ":" in path:
        raise ConfigurationError(
            f"--claim {name}:{path}: write the name of a PersistentVolumeClaim and an absolute "
            "path, such as album:/album"
        )
    return path
