"""What runs once for each release, before its pods: the topology, and the store's migrations.

Changes when a release needs another step.
"""

import json
from collections.abc import Iterator

from amqpjobs.cli.deploy.manifests import Json, Manifest, labels_of, object_of
from amqpjobs.cli.deploy.names import hash_of
from amqpjobs.cli.deploy.plan import Plan
from amqpjobs.cli.deploy.pods import container_of, grace_of, pod_of, secret_of, settings_of

USAGE = 2
"""The exit status of what a second try would end with, too."""

STEPS = ("topology", "migrate")

TOPOLOGY = """\
The queues and exchanges of this release, before there is a pod that needs them. Nothing is changed
or deleted: a queue that is there with other arguments is an error, and the release ends here.

The Secret {secret} has the files AMQPJOBS_URL, with RabbitMQ's user that declares, and
AMQPJOBS_STORE_URL.

A Job cannot be changed: the hash in its name, of the image and all else that it follows from, makes
a new one of each release. Old ones are gone after a day."""

MIGRATE = """\
The store of statuses, brought up to date, which only a newer amqpjobs needs. From then on it
refuses web pods of an older one that start anew: let the rollout follow."""


def release_of(plan: Plan) -> Iterator[Manifest]:
    """The Jobs of a release."""
    abouts = {"topology": TOPOLOGY.format(secret=secret_of(plan, "deploy")), "migrate": MIGRATE}
    for step in STEPS:
        name, labels = job_name(plan, step), labels_of(plan, step)
        job = object_of("Job", "batch/v1", name, labels, _spec(plan, step))
        yield Manifest(abouts[step], job)


def job_name(plan: Plan, step: str) -> str:
    """The name of the Job ``topology`` or ``migrate``: another one wherever it would be another
    Job, or would find other queues to declare."""
    queues = [list(work.held) for work in plan.work]
    follows_from = [[_spec(plan, step) for step in STEPS], settings_of(plan), queues]
    return f"{plan.prefix}-{step}-{hash_of(json.dumps(follows_from))}"


def _spec(plan: Plan, step: str) -> Json:
    container = container_of(plan, step, _arguments(plan, step))
    pod = pod_of(plan, container, "deploy", grace_of(plan), restartPolicy="Never")
    return {
        "backoffLimit": 4,
        "activeDeadlineSeconds": 600,
        "ttlSecondsAfterFinished": 86_400,
        "podFailurePolicy": fail_on_usage(step),
        "template": {"metadata": {"labels": labels_of(plan, step)}, "spec": pod},
    }


def _arguments(plan: Plan, step: str) -> list[str]:
    if step == "migrate":
        return ["migrate"]
    # The recorder's queue, too: the web tier's user may not declare it.
    apply = ["topology", "apply", "--recorder"]
    if plan.longest_delay is not None:
        apply += ["--longest-delay", f"{plan.longest_delay:g}"]
    return apply


def fail_on_usage(container: str) -> Json:
    """No second try of what cannot work, and none that counts for a pod that had to go."""
    return {
        "rules": [
            {
                "action": "FailJob",
                "onExitCodes": {"containerName": container, "operator": "In", "values": [USAGE]},
            },
            {
                "action": "Ignore",
                "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
            },
        ]
    }
