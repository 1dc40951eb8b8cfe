"""What the tests of the model share: a host, channels whose sinks write everything down."""

from collections.abc import Mapping
from typing import Any

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.broker.embedded.clock import ManualClock
from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.model.channel import Channel
from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.profile import profile_named
from amqpjobs.jobs.message.properties import Properties

QUORUM = {"x-queue-type": "quorum"}


class Recorder:
    """A sink that keeps all it hears."""

    def __init__(self) -> None:
        self.deliveries: list[tuple[str, int, bool, Message]] = []
        self.heard: list[tuple[Any, ...]] = []

    def deliver(self, tag: str, delivery_tag: int, redelivered: bool, message: Message) -> None:
        self.deliveries.append((tag, delivery_tag, redelivered, message))

    def returned(self, code: int, text: str, message: Message) -> None:
        self.heard.append(("returned", code, text, message.body))

    def confirm(self, delivery_tag: int) -> None:
        self.heard.append(("confirm", delivery_tag))

    def refuse(self, delivery_tag: int) -> None:
        self.heard.append(("refuse", delivery_tag))

    def cancelled(self, consumer_tag: str) -> None:
        self.heard.append(("cancelled", consumer_tag))

    def failed(self, refusal: Refusal) -> None:
        self.heard.append(("failed", refusal.text))

    def bodies(self) -> list[str]:
        """What has been delivered since this was asked last."""
        found = [message.body.decode() for *_, message in self.deliveries]
        self.deliveries.clear()
        return found

    def last(self) -> tuple[str, int, bool, Message]:
        return self.deliveries[-1]


class Model:
    """A virtual host as one version of RabbitMQ, with a clock that stands still."""

    def __init__(self, version: str) -> None:
        self.version = version
        self.clock = ManualClock()
        self.host = VirtualHost(profile_named(version), self.clock)

    def channel(self, owner: object = None, *, confirms: bool = False) -> tuple[Channel, Recorder]:
        recorder = Recorder()
        channel = self.host.open_channel(self if owner is None else owner, recorder)
        if confirms:
            channel.select_confirms()
        return channel, recorder

    def ready(self, queue: str) -> list[str]:
        """The bodies that wait in a queue."""
        return [message.body.decode() for message in self.host.queues[queue].messages()]


def declare(channel: Channel, name: str, **arguments: Any) -> str:
    """A durable queue; the arguments are named as in AMQP, without ``x-``, with underscores."""
    return channel.declare_queue(name, durable=True, arguments=x(arguments))[0]


def x(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}


def publish(
    channel: Channel,
    queue: str,
    body: str = "job",
    *,
    exchange: str = "",
    mandatory: bool = False,
    **properties: Any,
) -> None:
    header = encode_properties(Properties(**properties))
    channel.publish(exchange, queue, header, body.encode(), mandatory=mandatory)


def consume(model: Model, channel: Channel, queue: str, tag: str = "c", **options: Any) -> str:
    arguments = x(options.pop("arguments", {}))
    given = channel.consume(queue, tag, arguments=arguments, **options)
    model.host.dispatch()
    return given


def get(channel: Channel, queue: str, *, no_ack: bool = True) -> Message:
    delivery = channel.get(queue, no_ack=no_ack)
    assert delivery is not None, f"{queue} is empty"
    return delivery.message
