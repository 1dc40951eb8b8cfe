"""How the server knows the broker that it serves: its state, and the faults of messages.

The broker knows its connections, so these may not import it. Changes when the server needs more of
the broker.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.profile import Profile
from amqpjobs.broker.embedded.server.login import Access


class MessageFaults(Protocol):
    """The faults that a channel asks about."""

    @property
    def effects(self) -> Sequence[object]:
        """Those that are in effect. While there are none, nothing else is asked."""
        ...

    def keeps_confirm(self, tell: Callable[[int], None], tag: int) -> bool:
        """Whether a confirm is not to be sent now; `tell` sends it later."""
        ...

    def refuses_publish(self) -> bool:
        """Whether a publish is to be refused."""
        ...


class Host(Protocol):
    """The broker, as its connections and their channels know it."""

    @property
    def profile(self) -> Profile:
        """As which RabbitMQ it behaves."""
        ...

    @property
    def virtual_host(self) -> VirtualHost:
        """The one that there always is."""
        ...

    def vhost_named(self, name: str) -> VirtualHost | None:
        """The virtual host of that name; None if there is none."""
        ...

    @property
    def faults(self) -> MessageFaults:
        """What goes wrong on request."""
        ...

    @property
    def access(self) -> Access:
        """Who may log in."""
        ...
