"""Direct reply-to: answers that go to a channel, past all queues.

https://www.rabbitmq.com/docs/direct-reply-to
"""

from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.errors import PRECONDITION_FAILED, Refusal
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.names import unique

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.model.channel import Channel
    from amqpjobs.broker.embedded.profile import Profile

REPLY_TO = "amq.rabbitmq.reply-to"
PREFIX = f"{REPLY_TO}."

_SECRET = 24  # bytes: the address is all that a stranger would need
_ADDRESS_LENGTH = len(PREFIX) + _SECRET * 4 // 3  # in base64


class Replies:
    """All channels that take replies, by the address that their requests carry."""

    def __init__(self, profile: "Profile") -> None:
        self._profile = profile
        self._channels: dict[str, ReplyConsumer] = {}

    def __repr__(self) -> str:
        return f"<Replies: {len(self._channels)} channels>"

    def open(self, channel: "Channel", tag: str, *, no_ack: bool) -> "ReplyConsumer":
        """Let a channel take replies.

        Raises:
            Refusal: it does so already, or wants to acknowledge them.
        """
        if not no_ack:
            raise Refusal(PRECONDITION_FAILED, "reply consumer cannot acknowledge")
        if channel.reply_consumer is not None:
            raise Refusal(PRECONDITION_FAILED, "reply consumer already set")
        consumer = ReplyConsumer(channel, tag, f"{PREFIX}{unique(_SECRET)}")
        self._channels[consumer.address] = consumer
        return consumer

    def close(self, consumer: "ReplyConsumer") -> None:
        """Its channel takes no replies any more."""
        self._channels.pop(consumer.address, None)

    def exists(self, name: str) -> bool:
        """Whether somebody hears this address; what a passive declaration asks."""
        return name == REPLY_TO or name in self._channels

    def deliver(self, address: str, message: Message) -> bool:
        """Hand a reply to its channel, if that is still there.

        Returns:
            Whether that counts as routed: if not, a mandatory reply is returned.
        """
        consumer = self._channels.get(address)
        if consumer is not None:
            consumer.channel.give_reply(consumer, message)
        # From 4.2 on it is enough that the address may have been given by the broker.
        return not self._profile.returns_direct_replies and len(address) == _ADDRESS_LENGTH


class ReplyConsumer:
    """A channel that takes replies.

    Attributes:
        channel: the channel.
        tag: its consumer tag.
        address: what stands as ``reply_to`` in the requests that it sends.
    """

    __slots__ = ("address", "channel", "tag")

    def __init__(self, channel: "Channel", tag: str, address: str) -> None:
        self.channel = channel
        self.tag = tag
        self.address = address
