"""Direct reply-to: an answer without a queue."""

from pamqp.commands import Queue

from tests.conformance.client import Channel
from tests.conformance.events import Confirmed, Returned
from tests.conformance.peers import Peer

DIRECT = "amq.rabbitmq.reply-to"


def asked(channel: Channel, peer: Peer) -> tuple[Channel, str]:
    """Ask on the channel; where the answer is to go, seen by another connection."""
    service = peer.channel()
    service.classic("q")
    channel.consume(DIRECT, "c", no_ack=True)
    channel.publish("q", b"question", reply_to=DIRECT, correlation_id="1")
    question = service.wait_get("q")
    return service, str(question.properties.reply_to)


def test_reply(peer: Peer, channel: Channel) -> None:
    """`reply_to` becomes a name of the channel's own; what is sent there is delivered to it"""
    service, name = asked(channel, peer)
    assert name.startswith(f"{DIRECT}.")
    service.publish(name, b"answer", correlation_id="1")
    answer = channel.next()
    assert (answer.consumer, answer.body, answer.exchange) == ("c", b"answer", "")
    assert answer.key == name
    assert answer.properties.correlation_id == "1"


def test_two_answers(peer: Peer, channel: Channel) -> None:
    """Answers come in order; their delivery tags are all 1 on 3.10, and count on 4.3"""
    service, name = asked(channel, peer)
    service.publish(name, b"1")
    service.publish(name, b"2")
    answers = channel.take_next(2)
    assert [answer.body for answer in answers] == [b"1", b"2"]
    assert [answer.tag for answer in answers] == peer.by_version([1, 1], [1, 2])


def test_without_a_consumer(channel: Channel) -> None:
    """Asking without a consumer on it closes the channel with 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - fast reply consumer does not exist"):
        channel.publish("q", reply_to=DIRECT)


def test_with_acks(channel: Channel) -> None:
    """Its consumer must not ack: 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge"):
        channel.consume(DIRECT)


def test_second_consumer(channel: Channel) -> None:
    """A second consumer on it closes the channel with 406"""
    channel.consume(DIRECT, no_ack=True)
    with channel.refuses(406, "PRECONDITION_FAILED - reply consumer already set"):
        channel.consume(DIRECT, no_ack=True)


def test_cancelled(channel: Channel) -> None:
    """After `basic.cancel` there can be another"""
    channel.consume(DIRECT, "c", no_ack=True)
    channel.cancel("c")
    channel.consume(DIRECT, "d", no_ack=True)


def test_asker_is_gone(peer: Peer, channel: Channel) -> None:
    """An answer to a channel that is closed is dropped; 3.10 returns it if mandatory"""
    service, name = asked(channel, peer)
    channel.close()
    service.confirms()
    service.publish(name, b"answer")
    assert service.next() == Confirmed(1)
    service.publish(name, b"answer", mandatory=True)
    event = service.next()
    if peer.version == "3.10":
        assert isinstance(event, Returned)
        assert event.code == 312
        event = service.next()
    assert event == Confirmed(2)


def test_mandatory_answer(peer: Peer, channel: Channel) -> None:
    """A mandatory answer that arrives: 3.10 returns it all the same, 4.3 does not"""
    service, name = asked(channel, peer)
    service.confirms()
    service.publish(name, b"answer", mandatory=True)
    assert channel.next().body == b"answer"
    events = [type(service.next())]
    if events == [Returned]:
        events.append(type(service.next()))
    assert events == peer.by_version([Returned, Confirmed], [Confirmed])


def test_is_it_there(peer: Peer, channel: Channel) -> None:
    """A passive declaration of the name says whether the asker is there"""
    service, name = asked(channel, peer)
    assert service.call(look_for(name)).queue == name
    assert service.call(look_for(DIRECT)).queue == DIRECT
    channel.close()
    with service.refuses(404, f"NOT_FOUND - no queue '{name}' {peer.place}"):
        service.call(look_for(name))


def look_for(name: str) -> Queue.Declare:
    method = AnyName(passive=True)
    method.queue = name
    return method


class AnyName(Queue.Declare):
    """pamqp does not know all the letters that RabbitMQ uses in names."""

    def validate(self) -> None:
        return
