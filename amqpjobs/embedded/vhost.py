"""The virtual host: all exchanges and queues, and the channels that use them."""

from amqpjobs.embedded.channel import Channel
from amqpjobs.embedded.clock import Clock
from amqpjobs.embedded.profile import Profile
from amqpjobs.embedded.sink import Sink


class VirtualHost:
    """The virtual host "/" of one broker."""

    def __init__(self, profile: Profile, clock: Clock) -> None:
        self.profile = profile
        self.clock = clock

    def open_channel(self, owner: object, sink: Sink) -> Channel:
        """Open a channel for a connection."""
        return Channel(self, owner, sink)

    def close_owner(self, owner: object) -> None:
        """A connection has gone: delete its exclusive queues. Its channels are closed before."""
        raise NotImplementedError

    def dispatch(self) -> None:
        """Deliver what can be. To be called after `consume` and `recover` have been answered.

        Every other call delivers by itself what it makes possible, before it returns.
        """
        raise NotImplementedError
