"""What is to be deployed, as values: what the app knows, and what a person has said.

Changes when manifests follow from something new.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from amqpjobs.cli.deploy.names import prefix_of

How: TypeAlias = Literal["enqueue", "run"]


@dataclass(frozen=True, slots=True)
class Work:
    """One queue, and so one Deployment of workers.

    Attributes:
        queue: its name on the broker.
        held: how many deliveries one worker holds of each of its AMQP queues.
        jobs: their names.
        longest: seconds that its longest job may take; None where one has no limit.
        rate: of one worker process, as it was written.
        singleton: whether one of its jobs runs at a time, in all workers.
    """

    queue: str
    held: Mapping[str, int]
    jobs: tuple[str, ...]
    longest: float | None
    rate: str | None
    singleton: bool = False


@dataclass(frozen=True, slots=True)
class Timed:
    """A job that Kubernetes starts by its clock.

    Attributes:
        how: ``enqueue`` for a worker, or ``run`` in a pod of its own.
        job: its name.
        schedule: five fields, as cron has them; the times are UTC.
        arguments: JSON, as in a message. They stand in the manifest.
        timeout: seconds that one run may take; None for no limit.
    """

    how: How
    job: str
    schedule: str
    arguments: str = "{}"
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the manifests follow from: the same plan gives the same manifests.

    Attributes:
        app: the name of the app.
        place: ``package.module:app``.
        image: with its tag or digest.
        asgi: the user's own application beside the API of the web tier, or None.
        namespace: None for the one that kubectl uses.
        concurrency: jobs at once in a worker.
        prefetch: deliveries that a worker holds of each AMQP queue; None for the default.
        shutdown_timeout: seconds from SIGTERM to the end of a process.
        work: the queues.
        timed: the jobs that start by the clock.
        environment: settings beside ours. None of them is a secret.
        claims: PersistentVolumeClaims that all pods see, by the path of each.
        egress: TCP ports that jobs connect to, beside those of RabbitMQ and the store.
        longest_delay: seconds that delays must reach; None for the longest pause of the retries.
        hooks: the variables with the secrets of the app's webhooks.
        ingress: TCP ports of all pods that others may connect to, beside the web tier's.
    """

    app: str
    place: str
    image: str
    asgi: str | None
    namespace: str | None
    concurrency: int
    prefetch: int | None
    shutdown_timeout: float
    work: tuple[Work, ...]
    timed: tuple[Timed, ...]
    environment: Mapping[str, str]
    claims: Mapping[str, str]
    egress: tuple[int, ...]
    longest_delay: float | None = None
    hooks: tuple[str, ...] = ()
    ingress: tuple[int, ...] = ()

    @property
    def prefix(self) -> str:
        """What the names of all objects begin with."""
        return prefix_of(self.app)

    @property
    def repository(self) -> str:
        """The image without its tag and digest, as kustomize replaces these."""
        name = self.image.partition("@")[0]
        folder, slash, last = name.rpartition("/")
        return folder + slash + last.partition(":")[0]

    @property
    def tag(self) -> str | None:
        """The image's tag."""
        return self.image.partition("@")[0].rpartition("/")[2].partition(":")[2] or None

    @property
    def digest(self) -> str | None:
        """The image's digest."""
        return self.image.partition("@")[2] or None
