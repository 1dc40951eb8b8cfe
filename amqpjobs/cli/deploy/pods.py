"""Pods: user, writable paths, environment, probes and shutdown.

Changes when a rule for all pods does. The rules are those of the restricted profile
(https://kubernetes.io/docs/concepts/security/pod-security-standards/), and a read-only root.
"""

import math
from collections.abc import Iterable

from amqpjobs.cli.deploy.manifests import Json, Octal
from amqpjobs.cli.deploy.plan import Plan

USER = 10001
"""The uid and gid of the image."""

SECRETS = "/run/secrets/amqpjobs"
"""Where the files of the Secret are: outside of /tmp, which jobs write to."""

HEARTBEAT = "/tmp/amqpjobs.heartbeat"  # noqa: S108 - the pod's own, and nobody else's

SEEING = frozenset({"web", "worker", "run"})
"""The containers that jobs, or the user's own application, run in: they see the claims."""

READABLE = Octal(0o440)
"""By root and by the group of the pod."""

MARGIN = 10
"""Seconds that a pod has beyond its own budget, until Kubernetes kills it."""

DRAIN = 5
"""Seconds that a web pod still listens in after it was taken out of its Service: until then, others
go on to send it requests."""


def settings_of(plan: Plan) -> dict[str, str]:
    """The variables that all pods of the app have; none of them is a secret."""
    numbers = {"AMQPJOBS_CONCURRENCY": plan.concurrency, "AMQPJOBS_PREFETCH": plan.prefetch}
    return {
        "AMQPJOBS_APP": plan.place,
        **({"AMQPJOBS_ASGI": plan.asgi} if plan.asgi else {}),
        **{name: str(number) for name, number in numbers.items() if number is not None},
        # The Job of each release declares; what runs all the time may not, and need not ask.
        "AMQPJOBS_DECLARE": "false",
        "AMQPJOBS_SHUTDOWN_TIMEOUT": f"{plan.shutdown_timeout:g}",
        "AMQPJOBS_HEARTBEAT_FILE": HEARTBEAT,
        "AMQPJOBS_SECRETS_DIR": SECRETS,
        **plan.environment,
    }


def grace_of(plan: Plan, drain: int = 0) -> int:
    """Seconds from SIGTERM to SIGKILL, ``preStop`` among them."""
    return math.ceil(plan.shutdown_timeout) + MARGIN + drain


def secret_of(plan: Plan, who: str) -> str:
    """The name of the Secret of ``deploy``, ``worker`` or ``publisher``: users of RabbitMQ that may
    do different things, see ``amqpjobs topology users``."""
    return f"{plan.prefix}-{who}"


def config_of(plan: Plan) -> str:
    """The name of the ConfigMap, to which kustomize adds a hash of what is in it."""
    return f"{plan.prefix}-settings"


def container_of(
    plan: Plan, name: str, arguments: list[str], *, memory: str = "512Mi", **more: object
) -> Json:
    """A container of the image, with the image's own entry point.

    Args:
        arguments: of ``amqpjobs``.
        memory: its limit; half of it is asked for.
        more: whatever else a container may say.
    """
    return {
        "name": name,
        "image": plan.image,
        "args": arguments,
        "envFrom": [{"configMapRef": {"name": config_of(plan)}}],
        **more,
        # No limit of processor time: who is throttled misses heartbeats.
        "resources": {
            "requests": {"cpu": "100m", "memory": _half(memory)},
            "limits": {"memory": memory},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "secrets", "mountPath": SECRETS, "readOnly": True},
            *({"name": claim, "mountPath": path} for claim, path in _claims(plan, name)),
        ],
    }


def pod_of(plan: Plan, container: Json, who: str, grace: int, **more: object) -> Json:
    """The specification of a pod.

    Args:
        container: its only one.
        who: whose Secret it gets: see `secret_of`.
        grace: see `grace_of`.
        more: whatever else a pod may say.
    """
    return {
        **more,
        "terminationGracePeriodSeconds": grace,
        "automountServiceAccountToken": False,
        # Else a Service would be told as variables: that of an app called `amqpjobs` as
        # AMQPJOBS_WEB_PORT=tcp://..., which is a setting.
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": "256Mi"}},
            {
                "name": "secrets",
                "secret": {"secretName": secret_of(plan, who), "defaultMode": READABLE},
            },
            *(
                {"name": claim, "persistentVolumeClaim": {"claimName": claim}}
                for claim, _ in _claims(plan, container["name"])
            ),
        ],
    }


def _claims(plan: Plan, container: str) -> Iterable[tuple[str, str]]:
    return plan.claims.items() if container in SEEING else ()


def _half(memory: str) -> str:
    number = int(memory.removesuffix("Mi"))
    return f"{number // 2}Mi"
