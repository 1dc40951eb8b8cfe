"""The web tier: a Deployment, its Service, and how many of its pods may be away at once.

Changes when serving on Kubernetes does.
"""

from collections.abc import Iterator

from amqpjobs.cli.deploy.manifests import Json, Manifest, labels_of, object_of
from amqpjobs.cli.deploy.plan import Plan
from amqpjobs.cli.deploy.pods import DRAIN, container_of, grace_of, pod_of, secret_of

PORT = 8000

ABOUT = """\
The web tier: jobs over HTTP, and the recorder of their statuses, inside of each pod.

The Secret {secret} has the files AMQPJOBS_URL (RabbitMQ's user for publishers), AMQPJOBS_STORE_URL
(PostgreSQL), AMQPJOBS_WEB_TOKEN{hooks}.

{grace} s of grace: {drain} s for all others to hear that the Service sends it nothing any more,
AMQPJOBS_SHUTDOWN_TIMEOUT, and 10 s."""

BUDGET = """\
A drained node takes one web pod at a time. One that is not ready, since RabbitMQ is away, may go.
Workers need no such thing: what a worker has to give up runs on another."""


def web_of(plan: Plan) -> Iterator[Manifest]:
    """The objects of the web tier."""
    labels = labels_of(plan, "web")
    name = f"{plan.prefix}-web"
    grace = grace_of(plan, DRAIN)
    about = ABOUT.format(
        secret=secret_of(plan, "publisher"),
        hooks="".join(f", {variable}" for variable in plan.hooks),
        grace=grace,
        drain=DRAIN,
    )
    yield Manifest(about, object_of("Deployment", "apps/v1", name, labels, _deployment(plan)))
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    spec = {"selector": labels, "ports": ports}
    yield Manifest("", object_of("Service", "v1", name, labels, spec))
    budget = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": labels},
    }
    yield Manifest(BUDGET, object_of("PodDisruptionBudget", "policy/v1", name, labels, budget))


def _deployment(plan: Plan) -> Json:
    labels = labels_of(plan, "web")
    container = container_of(
        plan,
        "web",
        ["web", "--host", "0.0.0.0", "--port", str(PORT)],  # noqa: S104 - the pod's own address
        ports=[{"name": "http", "containerPort": PORT}],
        startupProbe=_probe("/healthz", periodSeconds=2, failureThreshold=60),
        livenessProbe=_probe("/healthz", periodSeconds=30, timeoutSeconds=10),
        readinessProbe=_probe("/readyz", periodSeconds=10, timeoutSeconds=5),
        # By the kubelet: the image needs no shell, and no `sleep`.
        lifecycle={"preStop": {"sleep": {"seconds": DRAIN}}},
    )
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    grace = grace_of(plan, DRAIN)
    pod = pod_of(plan, container, "publisher", grace, topologySpreadConstraints=[spread])
    return {
        "replicas": 2,
        "revisionHistoryLimit": 3,
        # A new pod is ready before an old one goes.
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        },
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _probe(path: str, **more: int) -> Json:
    return {"httpGet": {"path": path, "port": "http"}, **more}
