"""Publishing with confirms, the broker's part played by the test: what is told as sent was sent."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqpjobs.broker.rabbitmq import confirms as confirms_module
from amqpjobs.broker.rabbitmq import refused_publication as trials_module
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import NotConfirmed, PublishError, PublishRejected, Unroutable
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


class Desk:
    """A publication that runs, and its link."""

    def __init__(self) -> None:
        self.link = Link()
        self.publication = Publication(self.link, self._prepare)
        self.prepared = []
        self._task = asyncio.create_task(self.publication.run())

    async def _prepare(self, wire):
        self.prepared.append((wire, bodies(wire)))

    @property
    def wire(self):
        return self.link.wire

    async def connect(self):
        wire = self.link.connect()
        await turns()
        return wire

    async def lose(self):
        self.link.lose()
        await turns()

    def send(self, body, queue="q", message_id=None):
        return self.publication.send(
            "", queue, Properties(message_id=message_id or body), body.encode()
        )

    async def end(self):
        self._task.cancel()
        await asyncio.wait([self._task])
        self.publication.close()
        await turns()


@pytest.fixture
async def desk():
    made = Desk()
    yield made
    await made.end()


@pytest.fixture
async def wire(desk):
    return await desk.connect()


def bodies(wire):
    return [m.body.decode() for m in wire.published()]


async def test_a_message_leaves_mandatory_and_is_sent_once_it_is_confirmed(desk, wire):
    """Not before."""
    fate = desk.send("a")
    await turns()
    [sent] = wire.published()
    assert (sent.routing_key, sent.body, sent.mandatory) == ("q", b"a", True)
    assert sent.properties.message_id == "a"
    assert not fate.done()
    wire.confirm(1)
    assert fate.result() is None
    assert repr(desk.publication) == "<Publication: 0 unconfirmed, 0 waiting>"


async def test_each_life_is_prepared_before_anything_is_sent_on_it(desk, wire):
    """The queues may have to be declared first."""
    desk.send("a")
    await desk.lose()
    again = await desk.connect()
    assert desk.prepared == [(wire, []), (again, [])]
    assert bodies(again) == ["a"]


async def test_a_nack_is_a_refusal(desk, wire):
    """`reject-publish`: the queue is full."""
    fate = desk.send("a")
    wire.confirm(1, acked=False)
    with pytest.raises(PublishRejected, match="full") as caught:
        fate.result()
    assert caught.value.message_id == "a"


async def test_a_confirm_of_many_confirms_all_up_to_it_and_no_more(desk, wire):
    """Whatever was confirmed before."""
    fates = [desk.send(str(i)) for i in range(6)]
    wire.confirm(2)
    wire.confirm(4, multiple=True)
    assert [f.done() for f in fates] == [True, True, True, True, False, False]
    wire.confirm(6, multiple=True, acked=False)
    assert [type(f.exception()) for f in fates[4:]] == [PublishRejected] * 2


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.randoms(use_true_random=False))
def test_confirms_in_any_order_reach_exactly_their_messages(count, chance):
    """Single and multiple, acks and nacks, some twice: compared with what each one means."""

    async def scenario():
        desk = Desk()
        wire = await desk.connect()
        fates = {i: desk.send(str(i)) for i in range(1, count + 1)}
        expected = {}
        while len(expected) < count:
            tag, multiple, acked = (
                chance.randint(1, count),
                chance.random() < 0.4,
                chance.random() < 0.7,
            )
            for covered in range(1, tag + 1) if multiple else (tag,):
                expected.setdefault(covered, acked)
            wire.confirm(tag, multiple=multiple, acked=acked)
            done = {i: f.exception() is None for i, f in fates.items() if f.done()}
            assert done == expected
        assert desk.publication.unconfirmed == 0
        await desk.end()

    asyncio.run(scenario())


async def test_a_returned_message_is_unroutable_though_it_is_acked(desk, wire):
    """RabbitMQ acks what it could not route, after the return."""
    fates = [desk.send("a"), desk.send("b"), desk.send("c")]
    await turns()
    wire.give_back(wire.published()[1])
    assert not fates[1].done()
    wire.confirm(3, multiple=True)
    assert fates[0].exception() is None
    assert fates[2].exception() is None
    with pytest.raises(Unroutable, match="no queue 'q'.*topology") as caught:
        fates[1].result()
    assert caught.value.message_id == "b"


async def test_returns_of_equal_messages_are_matched_one_to_one(desk, wire):
    """The same bytes to the same queue, without an id: each return is one message's."""
    fates = [
        desk.publication.send("", "q", Properties(message_id=name), b"same")
        for name in (None, None, "x")
    ]
    await turns()
    for message in wire.published():
        wire.give_back(message)
    wire.confirm(3, multiple=True)
    assert [type(f.exception()) for f in fates] == [Unroutable] * 3


async def test_a_return_that_is_nobodys_is_left_alone(desk, wire):
    """A message that was confirmed already, or that never was."""
    fate = desk.send("a")
    await turns()
    [sent] = wire.published()
    sent.body = b"something else"
    wire.give_back(sent)
    wire.confirm(1)
    assert fate.result() is None


async def test_what_amqp_cannot_carry_fails_alone(desk, wire):
    """Nothing of it is sent, and its delivery tag is not used up."""
    bad = desk.publication.send("", "q", Properties(type="x" * 256), b"")
    large = desk.publication.send("", "q", Properties(headers={"x": "y" * 140_000}), b"")
    good = desk.send("good")
    await turns()
    assert bodies(wire) == ["good"]
    for fate in (bad, large):
        with pytest.raises(PublishError, match="AMQP cannot carry"):
            fate.result()
    wire.confirm(1)
    assert good.result() is None


async def test_without_a_connection_messages_wait_in_order(desk):
    """And leave as soon as there is one."""
    fates = [desk.send(name) for name in "abc"]
    await turns()
    assert repr(desk.publication) == "<Publication: 0 unconfirmed, 3 waiting>"
    wire = await desk.connect()
    assert bodies(wire) == ["a", "b", "c"]
    wire.confirm(3, multiple=True)
    assert all(f.result() is None for f in fates)


async def test_what_was_not_confirmed_is_sent_again_in_order_before_what_waits(desk, wire):
    """Under the same id: nobody knows what arrived, and at worst it is there twice."""
    fates = {name: desk.send(name) for name in "abcd"}
    wire.confirm(2)
    await desk.lose()
    fates["e"] = desk.send("e")
    again = await desk.connect()
    assert bodies(again) == ["a", "c", "d", "e"]
    again.confirm(4, multiple=True)
    assert all(f.result() is None for f in fates.values())
    assert [m.properties.message_id for m in again.published()] == ["a", "c", "d", "e"]


async def test_it_is_sent_again_over_as_many_lives_as_it_takes(desk, wire):
    """Order is kept."""
    fates = [desk.send(name) for name in "abc"]
    for _ in range(3):
        await desk.lose()
        again = await desk.connect()
        assert bodies(again) == ["a", "b", "c"]
    again.confirm(3, multiple=True)
    assert all(f.result() is None for f in fates)


async def test_a_return_of_an_earlier_life_is_forgotten(desk, wire):
    """The queue may be there by now."""
    fate = desk.send("a")
    await turns()
    wire.give_back(wire.published()[0])
    await desk.lose()
    again = await desk.connect()
    again.confirm(1)
    assert fate.result() is None


async def test_what_was_on_its_way_when_the_channel_was_closed_is_sent_alone(desk, wire):
    """One of them is to blame, and nothing says which: only its own error is its own."""
    fates = {name: desk.send(name) for name in ("a", "bad", "good")}
    wire.confirm(1)
    wire.channels[0].refuse(RuntimeError("PRECONDITION_FAILED - too large"))
    later = desk.send("later")
    await turns()
    assert fates["a"].result() is None
    shared = next(m for m in wire.published() if m.body == b"later")
    [alone] = [m for m in wire.published()[3:] if m.body != b"later"]
    assert (alone.body, alone.number) == (b"bad", 1)
    assert alone.channel != shared.channel
    wire.channels[alone.channel - 1].refuse(RuntimeError("PRECONDITION_FAILED - too large"))
    await turns()
    with pytest.raises(PublishRejected, match="too large") as caught:
        fates["bad"].result()
    assert caught.value.for_good
    assert not fates["good"].done()
    good = wire.published()[-1]
    assert (good.body, good.number) == (b"good", 1)
    assert good.channel not in (alone.channel, shared.channel)
    wire.say(commands.Basic.Ack(1, False), channel=good.channel)
    wire.say(commands.Basic.Ack(1, False), channel=shared.channel)
    await turns()
    assert fates["good"].result() is later.result() is None
    assert desk.publication.unsettled == 0
    assert wire.channels[good.channel - 1].calls == ["close"]


async def test_what_is_known_to_close_channels_is_sent_alone_at_once(desk, wire):
    """Those that share a channel have nothing to do with it."""
    alone = asyncio.ensure_future(
        desk.publication.publish("", "queue", Properties(), b"bad", 10, alone=True)
    )
    other = desk.send("other")
    await turns()
    bad, shared = sorted(wire.published(), key=lambda m: m.body)
    assert bad.channel != shared.channel
    wire.channels[bad.channel - 1].refuse(RuntimeError("PRECONDITION_FAILED"))
    wire.say(commands.Basic.Ack(1, False), channel=shared.channel)
    await turns()
    assert other.result() is None
    with pytest.raises(PublishRejected):
        await alone


async def test_where_no_message_is_let_through_only_one_is_tried(desk, wire):
    """A missing permission, or exchange: each try costs a channel, and the next says the same."""
    fates = [desk.send(name) for name in "abc"]
    words = "ACCESS_REFUSED - write access to exchange '' in vhost '/' refused for user 'u'"
    wire.channels[0].refuse(RuntimeError(words))
    await turns()
    [alone] = wire.published()[3:]
    wire.channels[alone.channel - 1].refuse(RuntimeError(words))
    await turns()
    for fate in fates:
        with pytest.raises(PublishRejected, match="lacks the write permission") as caught:
            fate.result()
        assert not caught.value.for_good
    assert len(wire.published()) == 4


async def test_a_message_that_ends_the_connection_does_not_end_every_one(desk, wire):
    """3.10 does so over an answer to a wrong address. It is given up after a few, and the others
    that were on their way are sent."""
    bad, good = desk.send("bad"), desk.send("good")
    await turns()
    for life in range(1 + trials_module.LIVES):
        assert not bad.done()
        assert bodies(wire) == (["bad"] if life else ["bad", "good"])
        wire.say(commands.Connection.Close(541, "INTERNAL_ERROR", 0, 0), channel=0)
        await desk.lose()
        wire = await desk.connect()
    with pytest.raises(PublishRejected, match="INTERNAL_ERROR") as caught:
        await bad
    assert caught.value.for_good
    [sent] = wire.published()
    assert sent.body == b"good"
    wire.say(commands.Basic.Ack(1, False), channel=sent.channel)
    await good


async def test_a_connection_that_is_lost_blames_no_message_that_is_tried_alone(desk, wire):
    """However often: a network is no judge."""
    fate = asyncio.ensure_future(
        desk.publication.publish("", "queue", Properties(), b"good", 10, alone=True)
    )
    for _ in range(2 * trials_module.LIVES):
        await turns()
        assert bodies(wire) == ["good"]
        await desk.lose()
        wire = await desk.connect()
    await turns()
    [sent] = wire.published()
    wire.say(commands.Basic.Ack(1, False), channel=sent.channel)
    await fate


async def test_one_that_is_tried_and_not_confirmed_holds_up_no_other(desk, wire, monkeypatch):
    """Its queue may be down."""
    monkeypatch.setattr(trials_module, "CONFIRM_TIMEOUT", 0.01)
    stuck, good = (
        asyncio.ensure_future(
            desk.publication.publish("", "queue", Properties(), body, 10, alone=True)
        )
        for body in (b"stuck", b"good")
    )
    with pytest.raises(NotConfirmed, match="did not answer"):
        await stuck
    await turns()
    [_, second] = wire.published()
    wire.say(commands.Basic.Ack(2, False), channel=second.channel)
    await good


async def test_nothing_is_tried_alone_while_rabbitmq_blocks(desk, wire):
    """Until its alarm is over; and what waits when the publication is closed is told."""
    wire.say(commands.Connection.Blocked("low on disk"), channel=0)
    fates = [asyncio.get_running_loop().create_future() for _ in range(2)]
    for fate in fates:
        desk.publication.send_for(fate, "", "queue", Properties(), b"x", alone=True)
    await turns()
    assert wire.published() == []
    assert desk.publication.unsettled == 2
    wire.say(commands.Connection.Unblocked(), channel=0)
    await turns()
    [sent] = wire.published()
    wire.say(commands.Basic.Ack(1, False), channel=sent.channel)
    await turns()
    assert fates[0].result() is None
    desk.publication.close()
    await turns()
    with pytest.raises(NotConfirmed, match="closed here"):
        fates[1].result()


async def test_a_connection_closed_by_the_broker_blames_no_message(desk, wire):
    """`connection.close` ends the channels before the connection is gone: a broker that is stopped
    in good order says so, and what was on its way is sent again."""
    fate = desk.send("a")
    await turns()
    wire.say(commands.Connection.Close(320, "CONNECTION_FORCED", 0, 0), channel=0)
    wire.channels[0].refuse(RuntimeError("CONNECTION_FORCED"))
    await turns()
    assert not fate.done()
    await desk.lose()
    again = await desk.connect()
    assert bodies(again) == ["a"]
    again.confirm(1)
    assert fate.result() is None


async def test_what_is_said_of_a_closed_channel_touches_no_other(desk, wire):
    """Numbers start again on each channel."""
    desk.send("a")
    wire.channels[0].refuse(RuntimeError("closed"))
    await turns()
    fate = desk.send("b")
    await turns()
    wire.say(commands.Basic.Ack(1, False), channel=1)
    assert not fate.done()
    wire.say(commands.Basic.Ack(1, False), channel=2)
    assert fate.result() is None


async def test_no_more_is_unconfirmed_than_the_limit(desk, wire, monkeypatch):
    """The rest waits, in order, and follows as confirms come."""
    monkeypatch.setattr(confirms_module, "MAX_UNCONFIRMED", 3)
    fates = [desk.send(str(i)) for i in range(8)]
    await turns()
    assert bodies(wire) == ["0", "1", "2"]
    wire.confirm(2)
    await turns()
    assert bodies(wire) == ["0", "1", "2", "3"]
    wire.confirm(4, multiple=True)
    await turns()
    assert bodies(wire) == [str(i) for i in range(7)]
    wire.confirm(7, multiple=True)
    await turns()
    wire.confirm(8)
    assert all(f.result() is None for f in fates)


async def test_no_more_bytes_are_unconfirmed_than_the_limit(desk, wire, monkeypatch):
    """One that is larger than the limit still goes when nothing else does."""
    monkeypatch.setattr(confirms_module, "MAX_UNCONFIRMED_BYTES", 10)
    for body in ("x" * 20, "y", "z" * 9, "w"):
        desk.send(body, message_id="id")
    await turns()
    assert bodies(wire) == ["x" * 20]
    wire.confirm(1)
    await turns()
    assert bodies(wire) == ["x" * 20, "y", "z" * 9]


async def test_a_message_does_not_overtake_those_that_wait(desk, wire, monkeypatch):
    """Though there is room for it by now."""
    monkeypatch.setattr(confirms_module, "MAX_UNCONFIRMED", 1)
    for name in "abc":
        desk.send(name)
    wire.confirm(1)
    desk.send("d")
    for tag in (2, 3, 4):
        await turns()
        wire.confirm(tag)
    await turns()
    assert bodies(wire) == ["a", "b", "c", "d"]


async def test_an_alarm_makes_messages_wait_until_it_is_over(desk, wire):
    """`connection.blocked`: what is sent would only fill the socket."""
    wire.say(commands.Connection.Blocked("low on memory"), channel=0)
    fate = desk.send("a")
    await turns()
    assert bodies(wire) == []
    wire.say(commands.Connection.Unblocked(), channel=0)
    await turns()
    assert bodies(wire) == ["a"]
    wire.confirm(1)
    assert fate.result() is None


async def test_an_alarm_is_told_once_however_many_channels_there_were(desk, wire, caplog):
    """A channel that the broker closed listens no more."""
    wire.channels[0].refuse(RuntimeError("closed"))
    await turns()
    wire.say(commands.Connection.Blocked("low on memory"), channel=0)
    assert caplog.messages.count("RabbitMQ blocks publishers") == 1


async def test_an_alarm_ends_with_its_connection(desk, wire):
    """The next one may be another node's; it says so itself."""
    wire.say(commands.Connection.Blocked("low on memory"), channel=0)
    desk.send("a")
    await desk.lose()
    assert bodies(await desk.connect()) == ["a"]


async def test_a_full_socket_makes_messages_wait(desk, wire):
    """Back-pressure: what the peer does not read stays out of its buffer."""
    wire.protocol.pause_writing()
    desk.send("a")
    await turns()
    assert bodies(wire) == []
    wire.protocol.resume_writing()
    await turns()
    assert bodies(wire) == ["a"]


async def test_a_message_that_is_not_confirmed_in_time_may_have_arrived(desk, wire):
    """It was sent."""
    with pytest.raises(NotConfirmed, match="did not answer; it may have arrived") as caught:
        await desk.publication.publish("", "q", Properties(message_id="7"), b"", 0.01)
    assert (caught.value.sent, caught.value.message_id) == (True, "7")


async def test_a_message_that_could_not_leave_in_time_was_not_sent(desk):
    """And does not leave afterwards: its caller was told that it did not."""
    with pytest.raises(NotConfirmed, match="no connection.*it was not sent") as caught:
        await desk.publication.publish("", "q", Properties(), b"late", 0.01)
    assert not caught.value.sent
    assert bodies(await desk.connect()) == []


async def test_what_was_sent_into_an_alarm_can_be_waited_for(desk, wire):
    """RabbitMQ takes it when the alarm is over: sent again, it would be there twice."""
    publish = desk.publication.publish("", "q", Properties(), b"a", 0.01, through_alarms=True)
    waiting = asyncio.create_task(publish)
    await turns()
    wire.say(commands.Connection.Blocked("low on memory"), channel=0)
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    wire.say(commands.Connection.Unblocked(), channel=0)
    wire.confirm(1)
    assert await waiting is None
    assert bodies(wire) == ["a"]


async def test_after_an_alarm_nobody_waits_longer_than_told(desk, wire):
    """It is over, and the confirm does not come."""
    publish = desk.publication.publish("", "q", Properties(), b"a", 0.01, through_alarms=True)
    waiting = asyncio.create_task(publish)
    await turns()
    wire.say(commands.Connection.Blocked("low on memory"), channel=0)
    await asyncio.wait([waiting], timeout=0.05)
    wire.say(commands.Connection.Unblocked(), channel=0)
    with pytest.raises(NotConfirmed, match="it may have arrived"):
        await waiting


async def test_a_message_that_an_alarm_held_back_was_not_sent(desk, wire):
    """The error says what stood in the way."""
    wire.say(commands.Connection.Blocked("low on disk"), channel=0)
    with pytest.raises(NotConfirmed, match=r"blocks publishers \(low on disk\); it was not sent"):
        await desk.publication.publish("", "q", Properties(), b"", 0.01)


async def test_a_message_that_was_sent_before_its_connection_was_lost_may_have_arrived(desk, wire):
    """Though it waits for the next connection now."""
    call = asyncio.create_task(desk.publication.publish("", "q", Properties(), b"x", 0.05))
    await turns()
    await desk.lose()
    with pytest.raises(NotConfirmed, match="it may have arrived") as caught:
        await call
    assert caught.value.sent
    assert bodies(await desk.connect()) == []


async def test_a_caller_who_gives_up_takes_a_waiting_message_back(desk):
    """It never leaves."""
    call = asyncio.create_task(desk.publication.publish("", "q", Properties(), b"x", 5))
    await turns()
    call.cancel()
    await asyncio.wait([call])
    assert bodies(await desk.connect()) == []


async def test_messages_whose_callers_gave_up_are_not_kept(desk):
    """Else a web tier would fill its memory with them while the broker is away."""
    for _ in range(3):
        with pytest.raises(NotConfirmed):
            await desk.publication.publish("", "q", Properties(), b"x", 0.001)
    call = asyncio.create_task(desk.publication.publish("", "q", Properties(), b"x", 5))
    await turns()
    call.cancel()
    await asyncio.wait([call])
    assert repr(desk.publication) == "<Publication: 0 unconfirmed, 0 waiting>"


async def test_confirms_that_never_come_do_not_take_the_room_of_others(desk, wire, monkeypatch):
    """Whoever waited for them has given up."""
    monkeypatch.setattr(confirms_module, "MAX_UNCONFIRMED", 2)
    for _ in range(2):
        with pytest.raises(NotConfirmed, match="it may have arrived"):
            await desk.publication.publish("", "q", Properties(), b"x", 0.001)
    fate = desk.send("a")
    await turns()
    assert bodies(wire) == ["x", "x", "a"]
    wire.confirm(3)
    assert fate.result() is None


async def test_a_caller_who_gives_up_on_a_sent_message_leaves_the_others_alone(desk, wire):
    """Its confirm comes to nobody."""
    fates = [desk.send("a"), desk.send("b")]
    fates[0].cancel()
    wire.confirm(2, multiple=True)
    assert fates[1].result() is None
    assert desk.publication.unconfirmed == 0


async def test_a_connection_that_gives_no_channel_is_left_for_the_next(desk):
    """The message waits for it."""
    fate = desk.send("a")
    bad = desk.link.connect()
    from amqpjobs.errors import BrokerUnavailable

    bad.refuse_channel = BrokerUnavailable("no channel")
    await turns()
    assert not fate.done()
    await desk.lose()
    again = await desk.connect()
    assert bodies(again) == ["a"]
    again.confirm(1)
    assert fate.result() is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_whatever_happens_every_message_gets_its_fate_and_order_is_kept(seed):
    """Random sends, confirms, losses and reconnections: everything unconfirmed is sent again, in
    the order in which it was given."""

    async def scenario():
        chance = random.Random(seed)
        desk, count, fates = Desk(), 0, {}
        for _ in range(40):
            match chance.choice(["send", "send", "confirm", "lose", "connect"]):
                case "send":
                    fates[count] = desk.send(f"{count:03}")
                    count += 1
                case "confirm" if desk.wire is not None and desk.wire.published():
                    tag = chance.randint(1, len(desk.wire.published()))
                    desk.wire.confirm(tag, multiple=chance.random() < 0.5)
                case "lose" if desk.wire is not None:
                    sent = bodies(desk.wire)
                    assert sent == sorted(sent)
                    await desk.lose()
                case "connect" if desk.wire is None:
                    open_before = [f"{i:03}" for i, f in fates.items() if not f.done()]
                    assert bodies(await desk.connect()) == open_before
            await turns()
        wire = desk.wire or await desk.connect()
        if wire.published():
            wire.confirm(len(wire.published()), multiple=True)
        assert all(f.done() and f.exception() is None for f in fates.values())
        await desk.end()

    asyncio.run(scenario())


async def test_a_publication_that_is_closed_keeps_nobody_waiting(desk, wire, monkeypatch):
    """Not even until their timeout; and it says what may have arrived."""
    monkeypatch.setattr(confirms_module, "MAX_UNCONFIRMED", 1)
    sent, waiting = desk.send("a"), desk.send("b")
    await turns()
    await desk.end()
    desk.publication.close()
    late = desk.send("c")
    errors = [fate.exception() for fate in (sent, waiting, late)]
    assert all(isinstance(error, NotConfirmed) for error in errors)
    assert [(error.message_id, error.sent) for error in errors] == [
        ("a", True), ("b", False), ("c", False),
    ]  # fmt: skip
    assert bodies(wire) == ["a"]
