"""Jobs that Kubernetes starts by its clock, for a worker or in a pod of their own.

Changes when starting one does.
"""

import math

from amqpjobs.cli.deploy.manifests import Json, Manifest, labels_of, literal, object_of
from amqpjobs.cli.deploy.names import name_of
from amqpjobs.cli.deploy.plan import Plan, Timed
from amqpjobs.cli.deploy.pods import container_of, grace_of, pod_of, secret_of
from amqpjobs.cli.deploy.release import fail_on_usage

WHO = {"enqueue": "publisher", "run": "worker"}
"""As whom each of them comes to RabbitMQ."""

LATE = 600
"""Seconds after which a time that was missed is let go."""

START = 120
"""Seconds that a pod may take to come to its job."""

OCCURRENCE = "batch.kubernetes.io/job-name"
"""The label of a pod that has its Job's name. The Job of a CronJob is called by the CronJob and the
minute that it is for (https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/), so it
is the same for every pod that is made for one time."""

ENQUEUE = """\
Enqueues {job} for a worker at {schedule} (UTC), with the file AMQPJOBS_URL of the Secret {secret}.

Kubernetes may start one time twice, and starts a pod again that has failed. The key is the time's
own, so all of them enqueue under one job id: they have one status, and may run twice."""

RUN = """\
Runs {job} at {schedule} (UTC) in a pod of its own: no queue, and no retries but backoffLimit.
Kubernetes may start one time twice, or not at all. The Secret {secret} has the file AMQPJOBS_URL,
for what it enqueues."""


def timed_of(plan: Plan, timed: Timed) -> Manifest:
    """The CronJob of a job."""
    name = name_of(plan.prefix, timed.how, timed.job)
    labels = labels_of(plan, timed.how)
    who = WHO[timed.how]
    about = {"enqueue": ENQUEUE, "run": RUN}[timed.how].format(
        job=repr(timed.job), schedule=repr(timed.schedule), secret=secret_of(plan, who)
    )
    spec = {
        "schedule": timed.schedule,
        "timeZone": "Etc/UTC",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": LATE,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"metadata": {"labels": labels}, "spec": _job(plan, timed, labels)},
    }
    return Manifest(about, object_of("CronJob", "batch/v1", name, labels, spec))


def _job(plan: Plan, timed: Timed, labels: dict[str, str]) -> Json:
    name = timed.how
    arguments = [name, f"--args={literal(timed.arguments)}"]
    more: Json = {}
    if timed.how == "enqueue":
        arguments.append("--key=$(OCCURRENCE)")
        field = {"fieldPath": f"metadata.labels['{OCCURRENCE}']"}
        more["env"] = [{"name": "OCCURRENCE", "valueFrom": {"fieldRef": field}}]
    arguments += ["--", literal(timed.job)]
    container = container_of(plan, name, arguments, **more)
    pod = pod_of(plan, container, WHO[timed.how], grace_of(plan), restartPolicy="Never")
    deadline = _deadline(timed)
    return {
        "backoffLimit": 2,
        **({} if deadline is None else {"activeDeadlineSeconds": deadline}),
        "podFailurePolicy": fail_on_usage(name),
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _deadline(timed: Timed) -> int | None:
    """Seconds for all tries; a job without a limit has none here either."""
    if timed.how == "enqueue":
        return LATE
    return None if timed.timeout is None else 3 * (math.ceil(timed.timeout) + START)
