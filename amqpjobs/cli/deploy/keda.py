"""How many workers there are, by what waits for them: KEDA's objects. Changes when scaling does.

By https://keda.sh/docs/2.21/scalers/rabbitmq-queue/ and /reference/scaledobject-spec/.
"""

import math
import re
from collections.abc import Iterator

from amqpjobs.cli.deploy.manifests import Json, Manifest, labels_of, object_of
from amqpjobs.cli.deploy.plan import Plan, Work
from amqpjobs.cli.deploy.workers import deployment_name

VERSION = "keda.sh/v1alpha1"

FEWEST, MOST = 1, 10
"""Workers of a queue."""

STEADY = 300
"""Seconds for which fewer workers must be enough, before there are fewer."""

LONGEST_STEADY = 3600
"""What Kubernetes allows."""

LOGIN = """\
How KEDA asks RabbitMQ, from the Secret {secret}: host (http://rabbitmq:15672/VHOST, and / at the
end for the virtual host /), username and password, of a user with the tag `monitoring` or
`management` who may read the queues."""

SCALED = """\
Workers of {queue}. As many as hold what waits there and what runs: each holds up to {held}{lanes},
and more workers would find nothing to take. What runs is unacked, and counts, or a busy worker
would be taken for an idle one; AMQP cannot tell how much that is, so KEDA asks the management API.

A worker that is one too many is told to stop, whichever it is, and gives back what runs. So fewer
must be enough for {steady} s first, which is longer than the jobs here take where that is known.

minReplicaCount 0 saves the last pod: then a first job, or a request, waits until there is one."""

SINGLE = """\
The worker of {queue}, a singleton queue: one of its jobs runs at a time, and more workers would
only stand by. So there is one, however much waits.

minReplicaCount 0 saves the pod while nothing waits: then a first job, or a request, waits until
there is one."""


def keda_of(plan: Plan) -> Iterator[Manifest]:
    """The objects of the overlay with KEDA."""
    secret = f"{plan.prefix}-keda"
    spec = {
        "secretTargetRef": [
            {"parameter": key, "name": secret, "key": key}
            for key in ("host", "username", "password")
        ]
    }
    name = _login(plan)
    labels = labels_of(plan, "scaling")
    yield Manifest(
        LOGIN.format(secret=secret), object_of("TriggerAuthentication", VERSION, name, labels, spec)
    )
    for work in plan.work:
        yield _scaled(plan, work)


def _scaled(plan: Plan, work: Work) -> Manifest:
    steady = _steady(work)
    name = deployment_name(plan, work)
    spec = {
        "scaleTargetRef": {"name": name},
        "minReplicaCount": FEWEST,
        "maxReplicaCount": FEWEST if work.singleton else MOST,
        "pollingInterval": 15,
        "cooldownPeriod": steady,
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleDown": {
                        "stabilizationWindowSeconds": steady,
                        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 60}],
                    }
                }
            }
        },
        "triggers": [_trigger(plan, queue, held) for queue, held in work.held.items()],
    }
    several = " of each priority"
    about = (SINGLE if work.singleton else SCALED).format(
        held=" or ".join(str(held) for held in dict.fromkeys(work.held.values())),
        queue=repr(work.queue),
        lanes=several if len(work.held) > 1 else "",
        steady=steady,
    )
    labels = labels_of(plan, "scaling")
    return Manifest(about, object_of("ScaledObject", VERSION, name, labels, spec))


def _trigger(plan: Plan, queue: str, held: int) -> Json:
    return {
        "type": "rabbitmq",
        "metadata": {
            "protocol": "http",
            "mode": "QueueLength",
            **_named(queue),
            "value": str(held),
            "excludeUnacknowledged": "false",
        },
        "authenticationRef": {"name": _login(plan)},
    }


def _named(queue: str) -> dict[str, str]:
    # KEDA writes a space in the path as `+`, which RabbitMQ takes for a plus. A regular expression
    # goes in the query, where it does not. In PCRE's and Python's words alike.
    if " " not in queue:
        return {"queueName": queue}
    return {"queueName": f"^{re.escape(queue)}$", "useRegex": "true", "operation": "sum"}


def _login(plan: Plan) -> str:
    return f"{plan.prefix}-rabbitmq"


def _steady(work: Work) -> int:
    """Longer than its longest job, so that what comes to an end by itself is not interrupted."""
    if work.longest is None:
        return STEADY
    return min(max(STEADY, 2 * math.ceil(work.longest)), LONGEST_STEADY)
