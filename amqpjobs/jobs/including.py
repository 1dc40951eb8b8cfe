"""What an app has for routers: `App.include`, `App.autodiscover`. Changes when routers come into an
app in another way."""

from typing import TYPE_CHECKING

from amqpjobs.jobs.places import called_from

if TYPE_CHECKING:
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.jobs.router import Router


class IncludesRouters:
    """What an `App` has for routers."""

    _registry: "Registry"

    def include(self, router: "Router") -> None:
        """Add the jobs of a router, its hooks and webhooks, and those of the routers in it. What is
        declared on it later is added, too.

        Args:
            router: may be included in several apps, but once in each.

        Raises:
            ConfigurationError: a name that is there already; a router that is in another router.

        Example:
            >>> billing = Router(prefix="billing")
            >>> @billing.job(queue="payments")
            ... async def charge(order: int) -> None: ...
            >>> app.include(billing)
            >>> charge.name
            'billing.charge'
        """
        from amqpjobs.jobs.router import include_in

        include_in(self._registry, router, called_from(1))

    def autodiscover(self, package: str) -> None:
        """Import the module ``jobs`` of a package and of all its subpackages, and include the
        routers that these modules have at their top level.

        Args:
            package: its dotted name, such as ``"shop"``.

        Raises:
            ConfigurationError: there is no such package, or no module ``jobs`` in it.
            Exception: whatever the import of a module raises.
        """
        from amqpjobs.jobs.discovery import routers_in
        from amqpjobs.jobs.router import include_in

        for router in routers_in(package, self._registry):
            include_in(self._registry, router, called_from(1))
