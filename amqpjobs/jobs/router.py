"""Jobs in modules that know no app: `Router`. Changes when there is more to declare on one."""

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any, TypeVar

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.broadcasts import Broadcast, DeclaresBroadcasts
from amqpjobs.jobs.declaring import DeclaresJobs
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.ending import DeclaresEndings, Hooked, Kind
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.hook import Hook
from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.receiving import ReceivesWebhooks
from amqpjobs.jobs.registry import Registry
from amqpjobs.jobs.surroundings import surroundings

R = TypeVar("R")


class Router(DeclaresJobs, DeclaresBroadcasts, DeclaresEndings, ReceivesWebhooks):
    """A set of jobs that apps include.

    A job of a router is sent by the app that includes it. With several, it is that of the job which
    runs now; elsewhere write ``await app.enqueue(job.message(...))``.

    Args:
        prefix: stands in front of the names of its jobs, with a dot. Queues are as they are given.

    Raises:
        ConfigurationError: a prefix that is empty between dots.

    Example:
        >>> billing = Router(prefix="billing")
        >>> @billing.job(queue="reports")
        ... async def charge(order: int) -> str:
        ...     return f"order {order} is paid"
        >>> app.include(billing)
        >>> await charge.request(7)
        'order 7 is paid'
    """

    def __init__(self, *, prefix: str = "") -> None:
        if prefix and not all(prefix.split(".")):
            raise ConfigurationError(
                f"Router(prefix={prefix!r}): write it without a dot at either end"
            )
        self._prefix = prefix
        self._parent: Router | None = None
        self._routers: list[Router] = []
        self._definitions: dict[Definition, str] = {}  # with the name that was given
        self._hooks: list[tuple[Kind, Hooked]] = []
        self._webhooks: list[Hook] = []
        self._broadcasts: list[Broadcast] = []
        self._apps: dict[Registry, str] = {}  # with the module that includes it
        self._enqueuer: Enqueuer = _Sender(self)
        self._add_queue = _as_it_is

    def __repr__(self) -> str:
        prefix = f" {self._full_prefix}" if self._full_prefix else ""
        return f"<Router{prefix}: {len(list(self._all_definitions()))} jobs>"

    @property
    def _full_prefix(self) -> str:
        """With the prefixes of the routers that it is in, and without a dot at its end."""
        parent = self._parent._full_prefix if self._parent is not None else ""
        return ".".join(part for part in (parent, self._prefix) if part)

    def _all_definitions(self) -> Iterator[Definition]:
        yield from self._definitions
        for router in self._routers:
            yield from router._all_definitions()

    def include(self, router: "Router") -> None:
        """Add another router. Its prefix comes behind this one's.

        Args:
            router: is in no other router, and not in an app by itself.

        Raises:
            ConfigurationError: it is; or this one is in that one; or it is no router.

        Example:
            >>> billing, refunds = Router(prefix="billing"), Router(prefix="refunds")
            >>> @refunds.job(queue="payments")
            ... async def refund(order: int) -> None: ...
            >>> billing.include(refunds)
            >>> refund.name
            'billing.refunds.refund'
        """
        _check_router(router)
        above: Router | None = self
        while above is not None:
            if above is router:
                raise ConfigurationError(f"{router!r} would be in itself")
            above = above._parent
        router._check_alone()
        if router._apps:
            raise ConfigurationError(
                f"{router!r} is in an app already: include it in its router before that"
            )
        router._parent = self
        self._routers.append(router)
        router._rename()
        for registry, module in self._all_apps().items():
            router._fill(registry, module)

    def _check_alone(self) -> None:
        if self._parent is not None:
            raise ConfigurationError(f"{self!r} is in {self._parent!r}: include that one")

    def _all_apps(self) -> dict[Registry, str]:
        return self._apps if self._parent is None else self._parent._all_apps()

    def _fill(self, registry: Registry, module: str) -> None:
        for definition in self._definitions:
            registry.include(definition, module)
        for kind, hooked in self._hooks:
            registry.ending_hooks.add(kind, hooked)
        for webhook in self._webhooks:
            registry.add_hook(webhook)
        for broadcast in self._broadcasts:
            registry.add_broadcast(broadcast)
        for router in self._routers:
            router._fill(registry, module)

    def _rename(self) -> None:
        for definition, given in self._definitions.items():
            definition.rename(self._full(given))
        for router in self._routers:
            router._rename()

    def _full(self, name: str) -> str:
        return f"{self._full_prefix}.{name}" if self._full_prefix else name

    def _add_job(self, definition: Definition) -> None:
        given = definition.name
        definition.rename(self._full(given))
        definition.check_early()
        for registry, module in self._all_apps().items():
            registry.include(definition, module)
        self._definitions[definition] = given

    def _add_hook(self, hook: Hook) -> Hook:
        for registry in self._all_apps():
            registry.add_hook(hook)
        self._webhooks.append(hook)
        return hook

    def _add_broadcast(self, broadcast: Broadcast) -> None:
        for registry in self._all_apps():
            registry.add_broadcast(broadcast)
        self._broadcasts.append(broadcast)

    def _add_ending_hook(self, kind: Kind, hooked: Hooked) -> None:
        if hooked.jobs is None:
            hooked = replace(hooked, jobs=self._names)
        for registry in self._all_apps():
            registry.ending_hooks.add(kind, hooked)
        self._hooks.append((kind, hooked))

    def _names(self) -> list[str]:
        return [definition.name for definition in self._all_definitions()]


def include_in(registry: Registry, router: Router, module: str) -> None:
    """Add everything of a router to an app, now and later. See `App.include`.

    Args:
        module: which includes it.

    Raises:
        ConfigurationError: it is in that app, or in another router; or a name is taken; or it is no
            router.
    """
    _check_router(router)
    router._check_alone()
    if registry in router._apps:
        raise ConfigurationError(f"{router!r} is in the app {registry.name!r} already")
    router._fill(registry, module)
    router._apps[registry] = module


def _check_router(given: object) -> None:
    if isinstance(given, Router):
        return
    instead = ""
    if isinstance(given, ModuleType):
        named = [name for name, value in vars(given).items() if isinstance(value, Router)]
        instead = f"; write include({given.__name__}.{named[0]})" if named else ""
    raise ConfigurationError(f"include takes a Router, not {given!r}{instead}")


def may_be_included(router: Router, registry: Registry) -> bool:
    """Whether it is in no other router, and not in this app."""
    return router._parent is None and registry not in router._apps


def _senders(router: Router) -> list[tuple[str, Enqueuer]]:
    """The apps that include it, by name."""
    return [
        (registry.name, registry.enqueuer)
        for registry in router._all_apps()
        if registry.enqueuer is not None
    ]


class _Sender:
    """Sends the jobs of a router by an app that includes it."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """See `Enqueuer.enqueue`."""
        return await self._app(message.job).enqueue(message)

    def within(self, transaction: Any, *, key: str | None = None) -> Any:
        """See `Enqueuer.within`."""
        names = self._router._names()
        return self._app(names[0] if names else "").within(transaction, key=key)

    async def request(self, message: Message[R], /) -> R:
        """See `Enqueuer.request`."""
        return await self._app(message.job).request(message)

    async def close(self) -> None:
        """See `Enqueuer.close`."""
        for _, app in _senders(self._router):
            await app.close()

    def _app(self, job: str) -> Enqueuer:
        found = _senders(self._router)
        if not found:
            raise ConfigurationError(
                f"the job {job!r} is on a router that no app includes: write `app.include(router)` "
                "where the app is, and import that module"
            )
        if len(found) == 1:
            return found[0][1]
        here = surroundings.get()
        for _, app in found:
            if here is not None and here.app is app:
                return app
        raise ConfigurationError(
            f"the job {job!r} is in several apps ({', '.join(name for name, _ in found)}): say by "
            "which it is sent: `await app.enqueue(job.message(...))`, or app.request(...)"
        )


def _as_it_is(queue: Queue) -> Queue:
    """The queues of a router are those of its apps."""
    return queue
