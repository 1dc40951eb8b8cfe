"""Deliveries that are not acknowledged in time. https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout

RabbitMQ looks once a minute; here it is seen at once.
"""

from typing import TYPE_CHECKING

from amqpjobs.broker.embedded.errors import PRECONDITION_FAILED, Refusal

if TYPE_CHECKING:
    from amqpjobs.broker.embedded.clock import Handle
    from amqpjobs.broker.embedded.model.channel import Channel
    from amqpjobs.broker.embedded.model.consumers import Consumer
    from amqpjobs.broker.embedded.model.messages import Entry


class Watch:
    """What one channel has been given, and when that is overdue."""

    def __init__(self, channel: "Channel") -> None:
        self._channel = channel
        self._clock = channel.vhost.clock
        self._timer: Handle | None = None
        self._due = 0.0

    def begin(self, entry: "Entry", timeout: float) -> None:
        """A message has been given out. It is to be acknowledged within that many seconds."""
        entry.deadline = deadline = self._clock.time() + timeout
        if self._timer is None or deadline < self._due:
            self._set(deadline)

    def stop(self) -> None:
        """The channel is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, deadline: float) -> None:
        self.stop()
        self._due = deadline
        self._timer = self._clock.call_at(deadline, self.look)

    def look(self) -> None:
        """Find what is late, and set the timer for what is next."""
        self._timer = None
        now = self._clock.time()
        channel = self._channel
        late = [tag for tag, (entry, *_) in channel.unacked.items() if _is_late(entry, now)]
        if late:
            self._late(late)
        deadlines = [
            entry.deadline
            for entry, *_ in channel.unacked.values()
            if entry is not None and entry.deadline
        ]
        if deadlines:
            self._set(min(deadlines))
        channel.vhost.run()

    def _late(self, tags: list[int]) -> None:
        channel = self._channel
        consumers: dict[Consumer, list[int]] = {}
        for tag in tags:
            _, _, consumer = channel.unacked[tag]
            if consumer is None or channel.vhost.profile.late_ack_closes_channel:
                channel.fail(self._refusal(consumer))
                return
            consumers.setdefault(consumer, []).append(tag)
        for consumer, its_tags in consumers.items():
            channel.take_away(consumer, its_tags)
            channel.sink.cancelled(consumer.tag)

    def _refusal(self, consumer: "Consumer | None") -> Refusal:
        channel = self._channel
        # From 4.3 on it is a `basic.get` that closes the channel, and this is what it says then.
        seconds = channel.vhost.consumer_timeout
        used = int(seconds * 1000) if channel.vhost.profile.late_ack_closes_channel else -1
        return Refusal(
            PRECONDITION_FAILED,
            f"delivery acknowledgement on channel {channel.number} timed out. "
            f"Timeout value used: {used} ms. This timeout value can be configured, "
            "see consumers doc guide to learn more",
        )


def _is_late(entry: "Entry | None", now: float) -> bool:
    return entry is not None and bool(entry.deadline) and entry.deadline <= now
