"""The workers: a Deployment for each queue. Changes when running workers on Kubernetes does."""

from amqpjobs.cli.deploy.manifests import Json, Manifest, labels_of, literal, object_of
from amqpjobs.cli.deploy.names import name_of
from amqpjobs.cli.deploy.plan import Plan, Work
from amqpjobs.cli.deploy.pods import container_of, grace_of, pod_of, secret_of

QUEUE_LABEL = "amqpjobs/queue"
"""Of the pods of a queue. Its value is the name of their Deployment, as a queue's own name may be
longer than a label, or have other characters."""

WAIT = "120"
"""Seconds that a worker waits for RabbitMQ at its start: both may be starting."""

ABOUT = """\
Workers for the queue {queue}: {jobs}.

The Secret {secret} has the file AMQPJOBS_URL, with RabbitMQ's user for workers.

{grace} s of grace: AMQPJOBS_SHUTDOWN_TIMEOUT, and 10 s. A job that has not ended by the timeout
when its pod has to go is given back, and runs again from its beginning elsewhere{longest}."""

RATE = """

The queue's rate, {rate}, is that of one process: so many replicas, so many times the rate."""

SINGLETON = """

A singleton queue: one of its jobs runs at a time, in all replicas. One replica is enough; another
one stands by, and goes on when the active one ends."""


def deployment_name(plan: Plan, work: Work) -> str:
    """The name of the Deployment of a queue."""
    return name_of(plan.prefix, "worker", work.queue)


def file_of(plan: Plan, work: Work) -> str:
    """The name of its file."""
    return deployment_name(plan, work).removeprefix(f"{plan.prefix}-") + ".yaml"


def worker_of(plan: Plan, work: Work) -> Manifest:
    """The Deployment of a queue."""
    name = deployment_name(plan, work)
    labels = {**labels_of(plan, "worker"), QUEUE_LABEL: name}
    about = ABOUT.format(
        queue=repr(work.queue),
        jobs=", ".join(repr(job) for job in work.jobs),
        secret=secret_of(plan, "worker"),
        grace=grace_of(plan),
        longest="" if work.longest is None else f" (jobs here take up to {work.longest:g} s)",
    )
    if work.rate is not None:
        about += RATE.format(rate=work.rate)
    if work.singleton:
        about += SINGLETON
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 3,
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _pod(plan, work)},
    }
    annotations = {"amqpjobs/queue-name": work.queue}
    return Manifest(about, object_of("Deployment", "apps/v1", name, labels, spec, annotations))


def _pod(plan: Plan, work: Work) -> Json:
    # Each question is a process of its own, of about 0.06 s of a core: none is asked often.
    alive = ["amqpjobs", "health"]
    container = container_of(
        plan,
        "worker",
        # `--` for a queue whose name begins as an option does. The wait ends before the startup
        # probe does, so that the pod's last line says what it had waited for.
        [
            "consume",
            "--wait",
            WAIT,
            *(["--"] if work.queue.startswith("-") else []),
            literal(work.queue),
        ],
        startupProbe=_probe(alive, periodSeconds=5, failureThreshold=36),
        livenessProbe=_probe(alive, periodSeconds=60, failureThreshold=2),
        # No Service asks: a release that does not come to consume stops its own rollout.
        readinessProbe=_probe([*alive, "--strict"], periodSeconds=30, failureThreshold=1),
    )
    return pod_of(plan, container, "worker", grace_of(plan))


def _probe(command: list[str], **more: int) -> Json:
    return {"exec": {"command": command}, "timeoutSeconds": 15, **more}
