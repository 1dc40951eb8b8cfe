"""Acknowledging, giving back, and where what is given back goes."""

import pytest

from amqpjobs.broker.embedded.errors import Refusal
from tests.unit.broker.embedded.model import Model, Recorder, consume, declare, get, publish


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def counts(recorder: Recorder) -> tuple[object, object]:
    """What the last delivery says of the deliveries before it: acquired, failed."""
    headers = recorder.last()[3].headers
    return headers.get("x-acquired-count"), headers.get("x-delivery-count")


def test_multiple_settles_all_up_to_a_tag(model: Model, kind: str) -> None:
    """Over all queues and consumers of the channel; 0 means all there are."""
    channel, _ = model.channel()
    declare(channel, "a", queue_type=kind)
    declare(channel, "b", queue_type=kind)
    for number, queue in enumerate("abab"):
        publish(channel, queue, str(number))
    for queue in "aabb":
        channel.get(queue)
    channel.ack(2, multiple=True)
    assert list(channel.unacked) == [3, 4]
    channel.nack(0, multiple=True)
    assert (model.ready("a"), model.ready("b")) == ([], ["1", "3"])
    channel.ack(0, multiple=True)  # nothing is no error


@pytest.mark.parametrize("multiple", [False, True])
def test_a_tag_that_is_not_held_costs_the_channel(model: Model, multiple: bool) -> None:
    """Also the second time, and 0 without `multiple`; the rest stays held."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    publish(channel, "jobs")
    publish(channel, "jobs")
    channel.get("jobs")
    channel.get("jobs")
    channel.ack(1)
    for tag in (1, 3):
        with pytest.raises(Refusal) as refusal:
            channel.ack(tag, multiple=multiple)
        assert refusal.value.text == f"PRECONDITION_FAILED - unknown delivery tag {tag}"
    with pytest.raises(Refusal, match="unknown delivery tag 0"):
        channel.ack(0)
    assert list(channel.unacked) == [2]


def test_a_classic_queue_takes_messages_back_to_their_old_places(model: Model) -> None:
    """Whatever the order in which they come back."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    for body in "abcde":
        publish(channel, "jobs", body)
    for _ in range(4):
        channel.get("jobs")
    channel.nack(3)
    channel.reject(1)
    assert model.ready("jobs") == ["a", "c", "e"]
    channel.nack(4, multiple=True)
    assert model.ready("jobs") == ["a", "b", "c", "d", "e"]
    delivery = channel.get("jobs")
    assert delivery is not None
    assert delivery.redelivered
    assert delivery.message_count == 4
    assert delivery.message.headers == {}


def test_a_quorum_queue_takes_messages_back_to_the_front(model: Model) -> None:
    """In the order in which they came back; before all that were never given out."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type="quorum", delivery_limit=9)
    for body in "abcde":
        publish(channel, "jobs", body)
    for _ in range(4):
        channel.get("jobs")
    channel.nack(3)
    channel.nack(1)
    channel.nack(4, multiple=True)
    assert model.ready("jobs") == ["c", "a", "b", "d", "e"]


@pytest.mark.parametrize("how", ["nack", "reject"])
def test_without_a_limit_3_10_takes_them_back_to_the_end(model: Model, how: str) -> None:
    """Not from a channel that has gone; and later versions never do. There -1 is no limit."""
    channel, _ = model.channel()
    limit = {} if model.version == "3.10" else {"delivery_limit": -1}
    declare(channel, "jobs", queue_type="quorum", **limit)
    for body in "abc":
        publish(channel, "jobs", body)
    channel.get("jobs")
    getattr(channel, how)(1)
    old = model.version == "3.10"
    assert model.ready("jobs") == (["b", "c", "a"] if old else ["a", "b", "c"])
    channel.get("jobs")
    channel.close()
    assert model.ready("jobs")[0] == ("b" if old else "a")


def test_what_counts_as_a_delivery_of_a_quorum_queue(model: Model) -> None:
    """On 3.10 everything; from 4.3 on a nack is no failure, and both are told."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type="quorum", delivery_limit=9)
    other, heard = model.channel()
    publish(channel, "jobs")
    for how in ("nack", "reject", "recover", "close"):
        worker, _ = model.channel()
        worker.get("jobs")
        if how == "close":
            worker.close()
        elif how == "recover":
            worker.recover()
            model.host.dispatch()
        else:
            getattr(worker, how)(1)
    consume(model, other, "jobs")
    assert counts(heard) == ((None, 4) if model.version == "3.10" else (4, 2))


def test_the_delivery_limit(model: Model) -> None:
    """One more than it is too many: the message is dropped, or becomes a dead letter."""
    channel, _ = model.channel()
    declare(channel, "dead")
    declare(
        channel,
        "jobs",
        queue_type="quorum",
        delivery_limit=2,
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
    )
    publish(channel, "jobs")
    for tag in (1, 2, 3):
        channel.get("jobs")
        channel.reject(tag)
    assert model.ready("jobs") == []
    (death,) = get(channel, "dead").headers["x-death"]  # type: ignore[misc]
    assert death["reason"] == "delivery_limit"  # type: ignore[index, call-overload]


def test_4_3_has_a_delivery_limit_of_20_by_itself(new: Model) -> None:
    """Twenty failures are borne, the twenty-first drops the message."""
    channel, _ = new.channel()
    declare(channel, "jobs", queue_type="quorum")
    publish(channel, "jobs")
    for tag in range(1, 22):
        assert new.ready("jobs") == ["job"]
        channel.get("jobs")
        channel.reject(tag)
    assert new.ready("jobs") == []


def test_closing_a_channel_gives_everything_back(model: Model, kind: str) -> None:
    """To others at once, and in order; closing again is no error."""
    closing, _ = model.channel()
    other, heard = model.channel()
    declare(closing, "jobs", queue_type=kind)
    for body in "abc":
        publish(closing, "jobs", body)
    consume(model, closing, "jobs")
    consume(model, other, "jobs")
    closing.close()
    closing.close()
    assert [(r, m.body) for _, _, r, m in heard.deliveries] == [
        (True, b"a"),
        (True, b"b"),
        (True, b"c"),
    ]
    assert model.host.queues["jobs"].unacked == 3
    other.ack(3, multiple=True)
    assert model.host.queues["jobs"].unacked == 0


def test_recover_delivers_again_after_its_answer(model: Model, kind: str) -> None:
    """With requeue only: RabbitMQ never had the other."""
    channel, heard = model.channel()
    declare(channel, "jobs", queue_type=kind)
    consume(model, channel, "jobs")
    publish(channel, "jobs")
    with pytest.raises(Refusal) as refusal:
        channel.recover(requeue=False)
    assert refusal.value.text == "NOT_IMPLEMENTED - requeue=false"
    channel.recover()
    assert len(heard.deliveries) == 1
    model.host.dispatch()
    assert [redelivered for *_, redelivered, _ in heard.deliveries] == [False, True]


def test_what_is_refused_for_good_is_dropped(model: Model, kind: str) -> None:
    """Without a dead letter exchange."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind)
    publish(channel, "jobs", "a")
    publish(channel, "jobs", "b")
    channel.get("jobs")
    channel.get("jobs")
    channel.nack(1, requeue=False)
    channel.reject(2, requeue=False)
    queue = model.host.queues["jobs"]
    assert (queue.ready, queue.unacked) == (0, 0)


def test_purging_leaves_what_is_held(model: Model, kind: str) -> None:
    """And says how many messages went."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind)
    for body in "abc":
        publish(channel, "jobs", body)
    channel.get("jobs")
    assert channel.purge_queue("jobs") == 2
    channel.nack(1)
    assert model.ready("jobs") == ["a"]
