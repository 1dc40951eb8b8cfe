"""Whatever is done to a queue, every message is in one place: it waits, is held, or was settled."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from amqpjobs.broker.embedded.model.channel import Channel
from tests.unit.broker.embedded.model import Model, Recorder, declare, publish

CHANNELS = st.integers(0, 2)
NAMES = ("plain", "ranked", "votes")


class Messages(RuleBasedStateMachine):
    """Three queues with dead letters, and three channels, which are closed and opened again."""

    @initialize(version=st.sampled_from(["3.10", "4.3"]), single=st.booleans())
    def begin(self, version: str, single: bool) -> None:
        self.model = Model(version)
        self.published = 0
        self.done: Counter[str] = Counter()
        self.channels: list[tuple[Channel, Recorder]] = [self.model.channel() for _ in range(3)]
        channel, _ = self.channels[0]
        declare(channel, "dead")
        letters = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
        declare(channel, "plain", single_active_consumer=single, **letters)
        declare(channel, "ranked", max_priority=3, **letters)
        declare(channel, "votes", queue_type="quorum", delivery_limit=3, **letters)

    @rule(number=CHANNELS, queue=st.sampled_from(NAMES), priority=st.none() | st.integers(0, 9))
    def publish(self, number: int, queue: str, priority: int | None) -> None:
        publish(self.channels[number][0], queue, str(self.published), priority=priority)
        self.published += 1

    @rule(
        number=CHANNELS,
        queue=st.sampled_from(NAMES),
        tag=st.sampled_from("ab"),
        prefetch=st.integers(0, 3),
        priority=st.integers(0, 2),
    )
    def consume(self, number: int, queue: str, tag: str, prefetch: int, priority: int) -> None:
        channel, _ = self.channels[number]
        if tag not in channel.consumers:
            channel.qos(prefetch)
            channel.consume(queue, tag, arguments={"x-priority": priority})
            self.model.host.dispatch()

    @rule(number=CHANNELS, tag=st.sampled_from("ab"))
    def cancel(self, number: int, tag: str) -> None:
        self.channels[number][0].cancel(tag)

    @rule(number=CHANNELS, queue=st.sampled_from((*NAMES, "dead")))
    def get(self, number: int, queue: str) -> None:
        self.channels[number][0].get(queue)

    @rule(
        number=CHANNELS,
        which=st.floats(0, 0.999),
        multiple=st.booleans(),
        how=st.sampled_from(["ack", "requeue", "discard", "reject", "drop"]),
    )
    def settle(self, number: int, which: float, multiple: bool, how: str) -> None:
        channel, _ = self.channels[number]
        if not channel.unacked:
            return
        tags = list(channel.unacked)
        tag = tags[int(which * len(tags))]
        settled = [each for each in tags if each <= tag] if multiple else [tag]
        held = [channel.unacked[each] for each in settled]
        if how == "ack":
            self._is_done(held)
            channel.ack(tag, multiple)
        elif how in ("requeue", "discard"):
            self._is_done([each for each in held if how == "discard" and each[1].name == "dead"])
            channel.nack(tag, multiple, requeue=how == "requeue")
        else:
            self._is_done(
                [h for h in (channel.unacked[tag],) if how == "drop" and h[1].name == "dead"]
            )
            channel.reject(tag, requeue=how == "reject")

    def _is_done(self, held: list[tuple]) -> None:  # type: ignore[type-arg]
        self.done.update(entry.message.body.decode() for entry, *_ in held)

    @rule(number=CHANNELS)
    def close(self, number: int) -> None:
        self.channels[number][0].close()
        self.channels[number] = self.model.channel()

    @rule(number=CHANNELS)
    def recover(self, number: int) -> None:
        self.channels[number][0].recover()
        self.model.host.dispatch()

    @precondition(lambda self: self.model.version == "3.10")
    @rule(number=CHANNELS, limit=st.integers(0, 3))
    def share(self, number: int, limit: int) -> None:
        channel, _ = self.channels[number]
        if all(consumer.queue.kind == "classic" for consumer in channel.consumers.values()):
            channel.qos(limit, global_=True)
            channel.qos(0)

    @rule(number=CHANNELS)
    def pause(self, number: int) -> None:
        self.channels[number][0].pause()

    @rule(number=CHANNELS)
    def resume(self, number: int) -> None:
        self.channels[number][0].resume()

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        found = Counter(self.done)
        for queue in self.model.host.queues.values():
            waiting = [message.body.decode() for message in queue.messages()]
            found.update(waiting)
            assert queue.ready == len(waiting)
        held = [each for channel, _ in self.channels for each in channel.unacked.values()]
        found.update(entry.message.body.decode() for entry, *_ in held if entry is not None)
        assert found == Counter(map(str, range(self.published)))

    @invariant()
    def what_is_counted_is_so(self) -> None:
        for channel, _ in self.channels:
            held = Counter(consumer for _, _, consumer in channel.unacked.values())
            for consumer in channel.consumers.values():
                assert consumer.held == held[consumer]
                assert not consumer.prefetch or consumer.held <= consumer.prefetch
        for name, queue in self.model.host.queues.items():
            assert queue.unacked == sum(
                its.name == name
                for channel, _ in self.channels
                for _, its, _ in channel.unacked.values()
            )

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """Where messages wait, no consumer could take one."""
        for queue in self.model.host.queues.values():
            if queue.ready and not queue.arguments.get("x-single-active-consumer"):
                assert not [each for each in queue.consumers if each.can_take()]


TestMessages = Messages.TestCase
