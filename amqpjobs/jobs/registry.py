"""What an app declares: its jobs, the queues they are bound to, and what holds for all of them.

Changes when being registered does.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import ConfigurationError, UnknownJob
from amqpjobs.jobs.broadcasts import Broadcast
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.ending import EndingHooks
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.hooks import WorkerHooks
from amqpjobs.jobs.message.own_headers import check_names
from amqpjobs.jobs.middleware import Processing, checked
from amqpjobs.jobs.published import Publications
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.jobs.queue.topology import Topology, foreign_of, topology_of
from amqpjobs.jobs.retry import DEFAULT_RETRY, Retry
from amqpjobs.jobs.routes import Routes
from amqpjobs.jobs.schedule.declared import Declared, declared

if TYPE_CHECKING:
    from amqpjobs.jobs.hook import Hook
    from amqpjobs.jobs.message.handle import Follows, JobHandle
    from amqpjobs.jobs.message.message import Message


PIPELINE = "amqpjobs.pipeline"
"""The prefix of the names of jobs that run pipelines: see `amqpjobs.jobs.message.pipeline`."""

MOST_PIPELINES = 256
"""The most pipeline jobs that are cached. There is one for each shape of a result."""


class Registry:
    """Knows each job and each queue by its name.

    Args:
        name: of the app: the AMQP ``app_id`` of its messages.
        retry: the policy of jobs that have none of their own.
        processing: middleware around every job that a worker runs, outermost first.
        exceptions: classes that a failed request raises as they are.
        propagate: headers that what a job enqueues has of the job.

    Attributes:
        jobs: by name.
        queues: by name.
        hooks: by name.
        schedules: of jobs, by name.
        routes: what of other exchanges its queues get, and which jobs handle it.
        published: the events that the app says it publishes.
        broadcasts: handlers that every process runs.
        listening: what listens for them, by process id: a fork has a copy of this.
        worker_hooks: what is called at the start and the end of a worker process.
        ending_hooks: what is called at the ends of jobs.
        app: what the handles of its jobs ask; None where nothing can be asked.
        propagate: as given; None for no headers.
        enqueuer: what sends the jobs of routers; the app.
        transactional: whether any job has ``once=``.
        enqueue_once: publishes what may be a job that is there already; the app's.
        deduplicated: names of jobs with ``unique=`` or ``debounce=``.
        outbox: the outbox that it has declared, of `amqpjobs.state.outbox`; None for none.
    """

    def __init__(
        self,
        name: str,
        *,
        retry: Retry = DEFAULT_RETRY,
        processing: Sequence[Processing] = (),
        exceptions: Iterable[type[Exception]] = (),
        propagate: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.retry = retry
        self.processing = checked(processing, "processing")
        self.exceptions = tuple(exceptions)
        self.propagate = check_names(propagate, "propagate") or None
        self.jobs: dict[str, Definition] = {}
        self.queues: dict[str, Queue] = {}
        self.hooks: dict[str, Hook] = {}
        self.schedules: dict[str, Declared] = {}
        self.routes, self.published = Routes(), Publications()
        self.broadcasts: list[Broadcast] = []
        self.listening: dict[int, object] = {}
        self.worker_hooks = WorkerHooks()
        self.ending_hooks = EndingHooks()
        self.app: Follows | None = None
        self.enqueuer: Enqueuer | None = None
        self.outbox: object | None = None
        self.transactional = False
        self.enqueue_once: Callable[[Message[Any]], Awaitable[JobHandle[Any]]] | None = None
        self.deduplicated: set[str] = set()
        self._pipelines: dict[str, Definition] = {}

    def __repr__(self) -> str:
        return f"<Registry of {self.name}: {len(self.jobs)} jobs on {len(self.queues)} queues>"

    @property
    def topology(self) -> Topology:
        """What these queues need on the broker, but for what others declare."""
        return self.topology_for(self.queues.values())

    @property
    def foreign(self) -> Topology:
        """What these queues need that others declare."""
        return foreign_of(self.queues.values(), self.routes.bindings)

    def topology_for(self, queues: Iterable[Queue]) -> Topology:
        """What some of the queues need, and every exchange of the app."""
        return topology_of(queues, self.routes.bindings, self.routes.exchanges.values())

    def add_queue(self, queue: Queue) -> Queue:
        """Register a queue; it may be there already, by the same definition or by its name.

        Raises:
            ConfigurationError: it was defined differently.
        """
        known = self.queues.setdefault(queue.name, queue)
        # Lanes too: mappings are equal in any order, but the order of priorities is their urgency.
        if (known == queue and lanes_of(known) == lanes_of(queue)) or queue == Queue(queue.name):
            return known
        if known == Queue(queue.name):
            raise ConfigurationError(
                f"queue {queue.name!r} was used by its name before it was defined; define it once, "
                "above, and give the same object to every job"
            )
        raise ConfigurationError(f"queue {queue.name!r} is defined twice, differently")

    def add(self, definition: Definition) -> None:
        """Register a job.

        Raises:
            ConfigurationError: there is one of this name, or it cannot be a job.
        """
        known = self.jobs.get(definition.name)
        if known is not None:
            raise definition.fail(
                f"there is a job of this name already: {known.function.__module__}."
                f"{known.function.__qualname__}; give one of them name='...'"
            )
        if definition.batch is not None and definition.queue.singleton:
            raise definition.fail(
                f"one job of the singleton queue {definition.queue.name!r} is held at a time, so "
                "there is nothing to collect: leave out batch=, or give it another queue"
            )
        definition.check_early()
        self._add_schedules(definition)
        self._adopt(definition)
        self.routes.add(definition)
        self.jobs[definition.name] = definition
        self.transactional = self.transactional or definition.once is not None
        if definition.rules.deduplicates:
            self.deduplicated.add(definition.name)

    def _adopt(self, definition: Definition) -> None:
        definition.registered_in, definition.sender = self.name, self.enqueuer
        definition.worker_hooks = self.worker_hooks
        definition.queues = self.queues
        definition.policy = definition.retry or self.retry
        definition.surround(self.processing)

    def _add_schedules(self, definition: Definition) -> None:
        new: dict[str, Declared] = {}
        for each in declared(definition.schedules, definition.name, definition.given_name):
            if (known := new.get(each.name) or self.schedules.get(each.name)) is not None:
                raise definition.fail(
                    f"its schedule {each.name!r} has the name of one of the job {known.job!r}: "
                    "give one of them another, such as Cron(..., name='nightly')"
                )
            new[each.name] = each
        self.schedules |= new

    def include(self, definition: Definition, module: str) -> None:
        """Register a job of a router.

        Args:
            module: which includes it.

        Raises:
            ConfigurationError: as `add` and `add_queue`.
        """
        queue = self.add_queue(definition.queue)
        own = definition.for_next_app()
        own.queue, own.included_by = queue, module
        self.add(own)

    def add_hook(self, hook: "Hook") -> "Hook":
        """Register a webhook.

        Raises:
            ConfigurationError: there is one of this name, or of its secret's; or no request can fit
                its job.
        """
        if any(hook.variable == known.variable for known in self.hooks.values()):
            raise ConfigurationError(
                f"hook {hook.name!r}: there is one with the secret {hook.variable} already; give "
                "it another name"
            )
        try:
            hook.check()
        except ConfigurationError as error:
            # A name that is defined further down in the module: `check` looks again.
            if not isinstance(error.__cause__, NameError):
                raise
        self.hooks[hook.name] = hook
        return hook

    def add_broadcast(self, broadcast: Broadcast) -> None:
        """Register a handler that every process runs.

        Raises:
            ConfigurationError: an exchange is defined differently.
        """
        for binding in broadcast.bindings:
            self.routes.add_exchange(binding.exchange)
        self.broadcasts.append(broadcast)

    def find(self, name: str) -> Definition:
        """The job of this name that the app has declared.

        Raises:
            UnknownJob: there is none; says which there are.
        """
        try:
            return self.jobs[name]
        except KeyError:
            known = ", ".join(sorted(self.jobs)) or "none"
            hint = did_you_mean(name, self.jobs)
            raise UnknownJob(
                f"there is no job {name!r}; there are: {known}{hint}", job=name
            ) from None

    def known(self, name: str) -> Definition | None:
        """The job of this name, declared by the app or a pipeline job of amqpjobs; None if there is
        none."""
        found = self.jobs.get(name) or self._pipelines.get(name)
        if found is None and name.startswith(PIPELINE) and self.enqueuer is not None:
            # Imported here: an app without pipelines does not need it.
            from amqpjobs.jobs.pipelines import pipeline_job

            found = pipeline_job(name, self.jobs.get, self.enqueuer)
            self._adopt(found)
            if len(self._pipelines) >= MOST_PIPELINES:
                self._pipelines.clear()  # any program that may publish can invent names
            self._pipelines[name] = found
        return found

    @property
    def has_pipelines(self) -> bool:
        """Whether this process has seen a pipeline."""
        return bool(self._pipelines)

    def resolve(self, name: str) -> Definition:
        """The job of this name.

        Raises:
            UnknownJob: there is none. The message lists the jobs.
        """
        return self.known(name) or self.find(name)

    def check(self) -> None:
        """Resolve every job and queue, so that what is wrong shows at start.

        Raises:
            ConfigurationError: what is wrong, naming the function.
        """
        for definition in self.jobs.values():
            definition.check()
        for hook in self.hooks.values():
            hook.check()
        for broadcast in self.broadcasts:
            broadcast.check()
        _ = self.topology

    def choose(self, names: Iterable[str]) -> list[Queue]:
        """The queues of these names; all, if none is given.

        Raises:
            ConfigurationError: there is no such queue; says which there are.
        """
        chosen = tuple(dict.fromkeys(names))
        unknown = [name for name in chosen if name not in self.queues]
        if unknown:
            known = ", ".join(sorted(self.queues)) or "none"
            hint = did_you_mean(unknown[0], self.queues)
            raise ConfigurationError(
                f"the app {self.name!r} has no queue {unknown[0]!r}; it has: {known}{hint}"
            )
        return [self.queues[name] for name in chosen] or list(self.queues.values())

    def to_consume(self, names: Iterable[str]) -> list[Queue]:
        """The queues of these names for a worker; all, if none is given.

        Raises:
            ConfigurationError: there is no such queue, or the app has none at all.
        """
        queues = self.choose(names)
        if not queues:
            raise ConfigurationError(
                f"the app {self.name!r} has no jobs: is the module that declares them imported?"
            )
        return queues

    def only_jobs(self) -> dict[str, Definition]:
        """By AMQP queue: the job for messages that name none, where the queue has but one job."""
        jobs: dict[str, list[Definition]] = {}
        for definition in self.jobs.values():
            jobs.setdefault(definition.queue.name, []).append(definition)
        return {
            lane.queue: jobs[queue.name][0]
            for queue in self.queues.values()
            if len(jobs.get(queue.name, ())) == 1
            for lane in lanes_of(queue)
        }
