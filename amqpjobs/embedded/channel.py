"""A channel: AMQP's methods as calls."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from amqpjobs.embedded.sink import Delivery, Sink

if TYPE_CHECKING:
    from amqpjobs.embedded.vhost import VirtualHost

Arguments = Mapping[str, Any]


class Channel:
    """One channel. Every method may raise `Refusal`, and the caller then closes the channel."""

    def __init__(self, vhost: "VirtualHost", owner: object, sink: Sink) -> None:
        self.sink = sink

    def declare_exchange(
        self,
        name: str,
        type: str,  # noqa: A002 - the protocol's word
        *,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Arguments | None = None,
    ) -> None:
        """`exchange.declare`."""
        raise NotImplementedError

    def delete_exchange(self, name: str, *, if_unused: bool = False) -> None:
        """`exchange.delete`."""
        raise NotImplementedError

    def bind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`exchange.bind`."""
        raise NotImplementedError

    def unbind_exchange(
        self, destination: str, source: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`exchange.unbind`."""
        raise NotImplementedError

    def declare_queue(
        self,
        name: str,
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Arguments | None = None,
    ) -> tuple[str, int, int]:
        """`queue.declare`: the name, the ready messages, the consumers."""
        raise NotImplementedError

    def delete_queue(self, name: str, *, if_unused: bool = False, if_empty: bool = False) -> int:
        """`queue.delete`: how many messages went with it."""
        raise NotImplementedError

    def purge_queue(self, name: str) -> int:
        """`queue.purge`: how many messages went."""
        raise NotImplementedError

    def bind_queue(
        self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`queue.bind`."""
        raise NotImplementedError

    def unbind_queue(
        self, queue: str, exchange: str, routing_key: str, arguments: Arguments | None = None
    ) -> None:
        """`queue.unbind`."""
        raise NotImplementedError

    def publish(
        self,
        exchange: str,
        routing_key: str,
        header: bytes,
        body: bytes,
        *,
        mandatory: bool = False,
    ) -> None:
        """`basic.publish`: returns and confirms go to the sink."""
        raise NotImplementedError

    def select_confirms(self) -> None:
        """`confirm.select`."""
        raise NotImplementedError

    def qos(self, prefetch_count: int, global_: bool = False) -> None:
        """`basic.qos`."""
        raise NotImplementedError

    def consume(
        self,
        queue: str,
        tag: str = "",
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        no_local: bool = False,
        arguments: Arguments | None = None,
    ) -> str:
        """`basic.consume`: the consumer's tag.

        Its deliveries start in the next `VirtualHost.dispatch`, so that `basic.consume-ok` can be
        sent ahead of them.
        """
        raise NotImplementedError

    def cancel(self, tag: str) -> None:
        """`basic.cancel`."""
        raise NotImplementedError

    def get(self, queue: str, *, no_ack: bool = False) -> Delivery | None:
        """`basic.get`: None for `basic.get-empty`."""
        raise NotImplementedError

    def ack(self, tag: int, multiple: bool = False) -> None:
        """`basic.ack`."""
        raise NotImplementedError

    def nack(self, tag: int, multiple: bool = False, requeue: bool = True) -> None:
        """`basic.nack`."""
        raise NotImplementedError

    def reject(self, tag: int, requeue: bool = True) -> None:
        """`basic.reject`."""
        raise NotImplementedError

    def recover(self, requeue: bool = True) -> None:
        """`basic.recover`; the deliveries start in the next `VirtualHost.dispatch`."""
        raise NotImplementedError

    def close(self) -> None:
        """Give all unacknowledged messages back, and let its consumers go."""
        raise NotImplementedError

    def pause(self) -> None:
        """Deliver nothing to this channel's consumers until `resume`."""
        raise NotImplementedError

    def resume(self) -> None:
        """Deliver again."""
        raise NotImplementedError
