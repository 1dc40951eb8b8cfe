"""Faults on request: what a real broker does only when it likes, on cue and for as long as asked.

Changes when there is another way to ask for a fault; what one does is in `effects`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, Self, TypeVar

from amqpjobs.broker.embedded.clock import Clock
from amqpjobs.broker.embedded.faults.effects import (
    BlackHole,
    Block,
    Cut,
    DelayConfirms,
    Direction,
    DropConfirms,
    Effect,
    RefuseConnections,
    RefusePublishes,
    SlowReads,
)
from amqpjobs.broker.embedded.faults.interventions import cancel_consumers, redeliver, vhost_with
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.server.connection import Connection

T = TypeVar("T")


class Faulty(Protocol):
    """The broker, as its faults know it."""

    @property
    def clock(self) -> Clock:
        """Its clock."""
        ...

    @property
    def virtual_hosts(self) -> Mapping[str, VirtualHost]:
        """Its exchanges and queues, by the virtual host's name."""
        ...

    @property
    def connections(self) -> Sequence[Connection]:
        """Those that are open now."""
        ...

    def call(self, function: Callable[[], T]) -> T:
        """Call a function where the broker runs."""
        ...


class Fault:
    """A fault that was asked for. In a `with` it ends with the block."""

    def __init__(self, faults: "Faults", effect: Effect) -> None:
        self._faults = faults
        self._effect = effect

    def __repr__(self) -> str:
        return f"<Fault {type(self._effect).__name__}{'' if self.active else ', over'}>"

    @property
    def active(self) -> bool:
        """Whether it still has an effect."""
        return self._effect in self._faults.effects and not self._effect.spent

    def end(self) -> None:
        """Let it be over; it may be over already."""
        self._faults.stop(self._effect)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()


class Faults:
    """What can be made to go wrong with a broker. Each call may come from any thread.

    What has an end is a context manager, and lasts until then::

        with broker.faults.black_hole():
            ...

    `name` is part of the name that a client gives its connection, and "" means all connections.
    amqpjobs names them by their purpose: ``publish``, ``consume`` and others.

    Attributes:
        effects: those that are in effect. Nearly always there are none, and the broker's hot path
            looks no further than that.
    """

    def __init__(self, broker: Faulty) -> None:
        self._broker = broker
        self.effects: list[Effect] = []

    def __repr__(self) -> str:
        return f"<Faults {[type(effect).__name__ for effect in self.effects]}>"

    def drop_confirms(self, count: int | None = None) -> Fault:
        """Take messages and never confirm them: the next `count`, or all until the end."""
        return self._begin(DropConfirms(count))

    def delay_confirms(self, seconds: float) -> Fault:
        """Confirm so much later, by the broker's clock."""
        return self._begin(DelayConfirms(seconds, self._broker.clock))

    def refuse_publishes(self, count: int | None = None) -> Fault:
        """Answer publishes with `basic.nack` and forget them: the next `count`, or all.

        Only publishers that have asked for confirms can be told, and only theirs are refused.
        """
        return self._begin(RefusePublishes(count))

    def cut(self, *, after_frames: int, direction: Direction = "received", name: str = "") -> Fault:
        """Cut the connection that carries the nth frame from now on, behind that frame; once.

        Args:
            after_frames: which frame, from 1; heartbeats and handshakes count.
            direction: whether frames count that the broker has ``received`` or ``sent``.
            name: whose frames count.
        """
        if after_frames < 1:
            raise ValueError(f"after_frames is {after_frames}: the first frame is number 1")
        return self._begin(Cut(after_frames, direction, name))

    def cut_now(self, name: str = "") -> int:
        """Cut connections at once, without a word; how many there were."""
        return self._each(lambda connection: connection.abort(), name)

    def black_hole(self, name: str = "") -> Fault:
        """Accept and read, and answer nothing, heartbeats neither.

        When it ends the connections that it had swallowed are cut.
        """
        return self._begin(BlackHole(name))

    def block(self, reason: str = "low on memory") -> Fault:
        """A resource alarm: `connection.blocked` to who publishes, whose socket is read no more."""
        return self._begin(Block(reason))

    def unblock(self) -> None:
        """End every `block`."""
        for effect in tuple(self.effects):
            if isinstance(effect, Block):
                self.stop(effect)

    def slow_reads(self, bytes_per_second: float, name: str = "") -> Fault:
        """Read what clients send at that pace, each connection."""
        return self._begin(SlowReads(bytes_per_second, name))

    def refuse_connections(self) -> Fault:
        """Reset every new connection before a byte is said; those that are open stay."""
        return self._begin(RefuseConnections())

    def cancel_consumers(self, queue: str) -> int:
        """Cancel a queue's consumers, as a cluster does that moves the queue; how many."""
        vhosts = self._broker.virtual_hosts
        return self._broker.call(lambda: cancel_consumers(vhost_with(vhosts, queue), queue))

    def redeliver(self, queue: str) -> int:
        """Deliver what is unacknowledged once more, while its consumer lives on; how many.

        As after a connection that was lost for the broker alone. Each is handled twice: that is
        what this is for.
        """
        broker = self._broker

        def act() -> int:
            served = [s for c in broker.connections for s in c.channels.values()]
            channels = [channel.model for channel in served if not channel.closing]
            return redeliver(vhost_with(broker.virtual_hosts, queue), channels, queue)

        return broker.call(act)

    def close_channels(self, code: int, text: str, name: str = "") -> int:
        """Close all open channels with that reply code and text; on how many connections."""
        return self._each(lambda connection: connection.close_channels(code, text), name)

    def close_connections(self, code: int, text: str, name: str = "") -> int:
        """Close connections with that reply code and text; how many."""
        return self._each(lambda connection: connection.close(code, text), name)

    def end(self) -> None:
        """End all faults that are in effect."""
        for effect in tuple(self.effects):
            self.stop(effect)

    def stop(self, effect: Effect) -> None:
        """End one of the effects; it may have ended already."""
        self._broker.call(lambda: self._stop(effect))

    # The rest is asked by the broker's own parts.

    def meets(self, connection: Connection) -> None:
        """A connection has come, or has just said its name."""
        for effect in self.effects:
            if effect.name in connection.client_name and effect not in connection.effects:
                self._meet(effect, connection)

    def keeps_confirm(self, tell: Callable[[int], None], tag: int) -> bool:
        """Whether a confirm is not to be sent now; `tell` sends it later."""
        return any(effect.keeps_confirm(tell, tag) for effect in self.effects)

    def refuses_publish(self) -> bool:
        """Whether a publish is to be refused."""
        return any(effect.refuses_publish() for effect in self.effects)

    def refuses_connection(self) -> bool:
        """Whether a new connection is to be refused."""
        return any(effect.refuses_connection() for effect in self.effects)

    def _begin(self, effect: Effect) -> Fault:
        self._broker.call(lambda: self._start(effect))
        return Fault(self, effect)

    def _start(self, effect: Effect) -> None:
        self.effects.append(effect)
        for connection in self._of_name(effect.name):
            self._meet(effect, connection)

    def _stop(self, effect: Effect) -> None:
        if effect not in self.effects:
            return
        self.effects.remove(effect)
        for connection in tuple(self._broker.connections):
            if effect in connection.effects:
                connection.effects.remove(effect)
                effect.end(connection)

    def _meet(self, effect: Effect, connection: Connection) -> None:
        connection.effects.append(effect)
        effect.begin(connection)

    def _each(self, act: Callable[[Connection], object], name: str) -> int:
        def act_on_all() -> int:
            chosen = list(self._of_name(name))
            for connection in chosen:
                act(connection)
            return len(chosen)

        return self._broker.call(act_on_all)

    def _of_name(self, name: str) -> Iterable[Connection]:
        return [c for c in self._broker.connections if name in c.client_name]
