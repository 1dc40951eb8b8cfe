"""What a channel of the embedded broker says unasked, to the server's side of its connection."""

from typing import NamedTuple, Protocol

from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.model.messages import Message


class Delivery(NamedTuple):
    """The answer to `basic.get`."""

    delivery_tag: int
    redelivered: bool
    message: Message
    message_count: int  # how many are ready behind it


class Sink(Protocol):
    """What hears one channel. Called synchronously, from within calls of any channel.

    A sink may keep and send what it is told; it must not call the virtual host or a channel from
    within, but for `pause` and `resume`.
    """

    def deliver(
        self, consumer_tag: str, delivery_tag: int, redelivered: bool, message: Message
    ) -> None:
        """`basic.deliver`."""

    def returned(self, code: int, text: str, message: Message) -> None:
        """`basic.return`; the confirm of the same message comes after it."""

    def confirm(self, delivery_tag: int) -> None:
        """`basic.ack` of one published message. Runs of them may be sent as one."""

    def refuse(self, delivery_tag: int) -> None:
        """`basic.nack` of one published message: no queue has it for certain."""

    def cancelled(self, consumer_tag: str) -> None:
        """`basic.cancel` by the broker: the queue is gone, or the consumer was too slow."""

    def failed(self, refusal: Refusal) -> None:
        """The channel is closed by the broker outside of a call. It has been closed already."""
