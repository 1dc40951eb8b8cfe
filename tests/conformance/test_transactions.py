"""Transactions: publishes and acknowledgements that count together, at `tx.commit`"""

from typing import Any

import pytest
from pamqp.commands import Basic, Confirm, Tx

from tests.conformance.client import Channel
from tests.conformance.events import ClosedError, Returned
from tests.conformance.peers import Peer


@pytest.fixture
def tx(peer: Peer) -> Channel:
    """A channel with transactions, on a connection of its own."""
    channel = peer.channel()
    assert isinstance(channel.call(Tx.Select()), Tx.SelectOk)
    return channel


def test_publishes_wait_for_the_commit(kind: str, channel: Channel, tx: Channel) -> None:
    """What is published in a transaction is in its queue when the commit is answered"""
    channel.of_kind(kind, "q")
    tx.publish("q", b"one")
    tx.publish("q", b"two")
    tx.round_trip()
    assert channel.counts("q") == (0, 0)
    assert isinstance(tx.call(Tx.Commit()), Tx.CommitOk)
    channel.wait_ready("q", 2)
    assert [channel.wait_get("q").body for _ in range(2)] == [b"one", b"two"]


def test_rollback_drops_publishes(channel: Channel, tx: Channel) -> None:
    """`tx.rollback` drops what was published, and the next transaction begins at once"""
    channel.classic("q")
    tx.publish("q", b"dropped")
    assert isinstance(tx.call(Tx.Rollback()), Tx.RollbackOk)
    tx.publish("q", b"kept")
    tx.call(Tx.Commit())
    channel.wait_ready("q", 1)
    assert channel.wait_get("q").body == b"kept"


def test_acks_wait_for_the_commit(kind: str, channel: Channel, tx: Channel) -> None:
    """An acknowledgement makes no room for the consumer before the commit"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"one", b"two")
    tx.call(Basic.Qos(prefetch_count=1))
    tx.call(Basic.Consume(queue="q", consumer_tag="c"))
    tx.send(Basic.Ack(tx.next().tag))
    assert tx.arrived() == []
    tx.send(Tx.Commit())
    assert tx.next().body == b"two"


def test_rolled_back_acks_can_be_sent_again(kind: str, channel: Channel, tx: Channel) -> None:
    """After a rollback deliveries are unacknowledged as before, and not delivered again"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"one", b"two", b"three")
    tx.call(Basic.Consume(queue="q", consumer_tag="c"))
    one, two, three = (event.tag for event in tx.take_next(3))
    tx.send(Basic.Ack(three), Basic.Nack(one, requeue=False))
    tx.call(Tx.Rollback())
    assert tx.arrived() == []
    tx.send(Basic.Ack(two, multiple=True))
    tx.call(Tx.Commit())
    tx.connection.close()
    channel.wait_ready("q", 1)
    assert channel.wait_get("q").body == b"three"


def test_a_delivery_is_settled_once_in_a_transaction(channel: Channel, tx: Channel) -> None:
    """A tag that is acknowledged twice in a transaction is refused with 406 the second time"""
    channel.classic("q")
    channel.publish_confirmed("q", b"one")
    tag = tx.wait_get("q", no_ack=False).tag
    with tx.refuses(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
        tx.send(Basic.Ack(tag), Basic.Ack(tag))


def test_rejections_wait_for_the_commit(kind: str, channel: Channel, tx: Channel) -> None:
    """What is rejected in a transaction comes back, or is dead-lettered, at the commit"""
    channel.classic("dead")
    arguments = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": "dead"}
    channel.of_kind(kind, "q", **arguments)
    channel.publish_confirmed("q", b"one", b"two")
    tx.call(Basic.Consume(queue="q", consumer_tag="c"))
    one, two = tx.take_next(2)
    tx.send(Basic.Reject(one.tag, requeue=False), Basic.Reject(two.tag, requeue=True))
    assert tx.arrived() == []
    assert channel.counts("dead") == (0, 0)
    tx.send(Tx.Commit())
    again = tx.next()
    assert (again.body, again.redelivered) == (b"two", True)
    channel.wait_ready("dead", 1)


def test_requeue_in_a_transaction_counts_as_outside(
    kind: str, peer: Peer, channel: Channel, tx: Channel
) -> None:
    """`basic.nack` and `basic.reject` with requeue count deliveries as they do outside of one"""
    channel.of_kind(kind, "q")
    headers: list[Any] = []
    for made in (peer.channel(), tx):
        for how in (Basic.Nack, Basic.Reject):
            channel.publish_confirmed("q", b"one")
            made.send(how(made.wait_get("q", no_ack=False).tag, requeue=True))
            if made is tx:
                tx.call(Tx.Commit())
            headers.append(channel.wait_get("q").headers)
    assert headers[:2] == headers[2:]


def test_messages_are_routed_when_they_are_published(channel: Channel, tx: Channel) -> None:
    """A queue that is bound between publish and commit gets nothing"""
    channel.classic("late")
    tx.publish("key", b"one", exchange="amq.direct")
    tx.round_trip()
    channel.bind("late", "amq.direct", "key")
    tx.call(Tx.Commit())
    channel.round_trip()
    assert channel.counts("late") == (0, 0)


def test_the_default_exchange_in_a_transaction(peer: Peer, channel: Channel, tx: Channel) -> None:
    """A queue declared before the commit: the default exchange of 3.10 finds it, that of 4.3 not"""
    tx.publish("late", b"one")
    tx.round_trip()
    channel.classic("late")
    tx.call(Tx.Commit())
    channel.round_trip()
    assert channel.counts("late") == (peer.by_version(1, 0), 0)


def test_returns_come_with_the_commit(tx: Channel) -> None:
    """A mandatory message that goes to no queue is returned at the commit, before its answer"""
    tx.publish("nowhere", b"one", mandatory=True)
    assert tx.arrived() == []
    tx.call(Tx.Commit())
    (returned,) = tx.arrived()
    assert isinstance(returned, Returned)
    assert (returned.code, returned.body) == (312, b"one")


def test_a_queue_that_is_gone_by_the_commit(
    kind: str, peer: Peer, channel: Channel, tx: Channel
) -> None:
    """A queue deleted before the commit: 3.10 returns the mandatory message, 4.3 closes with 506"""
    channel.of_kind(kind, "q")
    tx.publish("q", b"one", mandatory=True)
    tx.round_trip()
    channel.delete("q")
    if peer.version == "3.10":
        tx.call(Tx.Commit())
        assert [event.code for event in tx.arrived()] == [312]
        return
    with pytest.raises(ClosedError, match="RESOURCE_ERROR - failed to deliver message") as closed:
        tx.call(Tx.Commit())
    assert (closed.value.scope, closed.value.code) == ("connection", 506)


def _fill(channel: Channel, kind: str) -> None:
    """A queue that rejects publishes, and another one."""
    channel.of_kind(kind, "q", x_max_length=1, x_overflow="reject-publish")
    channel.of_kind(kind, "other")
    side = channel.connection.channel()
    side.confirms()
    accepted = True
    while accepted:
        side.publish("q", b"first")
        accepted = not side.next().refused


def test_a_refused_publish_fails_the_commit(channel: Channel, tx: Channel) -> None:
    """A classic queue that rejects a publish closes the channel with 406 at the commit"""
    _fill(channel, "classic")
    tx.publish("q", b"too much")
    tx.publish("other", b"one")
    with tx.refuses(406, "PRECONDITION_FAILED - partial tx completion"):
        tx.call(Tx.Commit())
    channel.wait_ready("other", 1)
    assert channel.counts("q") == (1, 0)


def test_a_quorum_queue_refuses_in_silence(channel: Channel, tx: Channel) -> None:
    """A quorum queue that rejects publishes drops them, and the commit is answered all the same"""
    _fill(channel, "quorum")
    before = channel.counts("q")
    for _ in range(3):
        tx.publish("q", b"too much")
    tx.publish("other", b"one")
    tx.call(Tx.Commit())
    channel.wait_ready("other", 1)
    assert channel.counts("q") == before


def test_a_channel_that_closes_rolls_back(kind: str, channel: Channel, tx: Channel) -> None:
    """With its channel a transaction is dropped: what was acknowledged in it is delivered again"""
    channel.of_kind(kind, "q")
    channel.publish_confirmed("q", b"one")
    tx.send(Basic.Ack(tx.wait_get("q", no_ack=False).tag))
    tx.publish("q", b"two")
    tx.close()
    channel.wait_ready("q", 1)
    assert channel.wait_get("q").body == b"one"


def test_a_missing_exchange_is_found_at_once(tx: Channel) -> None:
    """Publishing to an exchange that does not exist is refused before the commit"""
    with pytest.raises(ClosedError, match="404 NOT_FOUND - no exchange 'nowhere'"):
        tx.publish("q", b"one", exchange="nowhere")
        tx.round_trip()


def test_select_again(channel: Channel, tx: Channel) -> None:
    """A second `tx.select` changes nothing: the transaction goes on"""
    channel.classic("q")
    tx.publish("q", b"one")
    tx.call(Tx.Select())
    tx.call(Tx.Commit())
    channel.wait_ready("q", 1)


def test_only_where_it_was_selected(channel: Channel) -> None:
    """`tx.commit` on a channel without transactions is refused with 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - channel is not transactional"):
        channel.call(Tx.Commit())


def test_rollback_only_where_it_was_selected(channel: Channel) -> None:
    """`tx.rollback` on a channel without transactions is refused with 406"""
    with channel.refuses(406, "PRECONDITION_FAILED - channel is not transactional"):
        channel.call(Tx.Rollback())


def test_no_transactions_beside_confirms(channel: Channel) -> None:
    """`tx.select` on a channel with confirms is refused with 406"""
    channel.call(Confirm.Select())
    with channel.refuses(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode"):
        channel.call(Tx.Select())


def test_no_confirms_beside_transactions(tx: Channel) -> None:
    """`confirm.select` on a channel with transactions is refused with 406"""
    with tx.refuses(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode"):
        tx.call(Confirm.Select())


def test_recover_within_a_transaction(channel: Channel, tx: Channel) -> None:
    """`basic.recover` gives back what the transaction has not acknowledged"""
    channel.classic("q")
    channel.publish_confirmed("q", b"one", b"two")
    one = tx.wait_get("q", no_ack=False)
    tx.wait_get("q", no_ack=False)
    tx.send(Basic.Ack(one.tag))
    tx.call(Basic.Recover(requeue=True))
    channel.wait_ready("q", 1)
    assert channel.wait_get("q").body == b"two"


def test_direct_replies_in_a_transaction(peer: Peer, channel: Channel, tx: Channel) -> None:
    """A direct reply in a transaction: on 3.10 it is sent at once, on 4.3 at the commit"""
    caller = peer.channel()
    caller.call(Basic.Consume(queue="amq.rabbitmq.reply-to", consumer_tag="c", no_ack=True))
    channel.classic("q")
    caller.publish("q", b"question", reply_to="amq.rabbitmq.reply-to")
    channel.wait_ready("q", 1)
    address = channel.wait_get("q").properties.reply_to
    tx.publish(str(address), b"reply")
    tx.round_trip()
    before = [event.body for event in caller.arrived()]
    tx.call(Tx.Commit())
    after = [caller.next().body] if not before else []
    assert (before, after) == peer.by_version(([b"reply"], []), ([], [b"reply"]))
