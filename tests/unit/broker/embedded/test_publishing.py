"""Publishing: routing, what is returned and confirmed, and what is refused."""

import pytest

from amqpjobs.broker.embedded.errors import Refusal
from tests.unit.broker.embedded.model import QUORUM, Model, consume, declare, get, publish


def test_the_default_exchange_leads_to_the_queue_of_that_name(model: Model) -> None:
    """A message waits there, and is passed on untouched."""
    channel, _ = model.channel()
    declare(channel, "jobs")
    header = b"\x80\x00\x04text"
    channel.publish("", "jobs", header, b"body")
    message = get(channel, "jobs")
    assert (message.exchange, message.routing_key) == ("", "jobs")
    assert message.header is header
    assert message.body == b"body"


def test_what_cannot_be_routed_is_returned_before_it_is_confirmed(model: Model) -> None:
    """Only when it is mandatory; confirmed it is in any case."""
    channel, heard = model.channel(confirms=True)
    publish(channel, "nowhere", "a", mandatory=True)
    publish(channel, "nowhere", "b")
    assert heard.heard == [
        ("returned", 312, "NO_ROUTE", b"a"),
        ("confirm", 1),
        ("confirm", 2),
    ]


def test_without_confirm_select_nothing_is_confirmed(model: Model) -> None:
    """And the numbers start at one when it is asked for later."""
    channel, heard = model.channel()
    declare(channel, "jobs")
    publish(channel, "jobs")
    assert heard.heard == []
    channel.select_confirms()
    publish(channel, "jobs")
    assert heard.heard == [("confirm", 1)]


def test_an_exchange_that_does_not_exist_costs_the_channel(model: Model) -> None:
    """404, in RabbitMQ's words."""
    channel, _ = model.channel()
    with pytest.raises(Refusal) as refusal:
        publish(channel, "key", exchange="missing")
    assert refusal.value.code == 404
    assert refusal.value.text == "NOT_FOUND - no exchange 'missing' in vhost '/'"
    assert refusal.value.closes == "channel"


def test_nobody_publishes_to_an_internal_exchange(model: Model) -> None:
    """It is fed by other exchanges only."""
    channel, _ = model.channel()
    channel.declare_exchange("inner", "fanout", internal=True)
    channel.declare_exchange("outer", "fanout")
    channel.bind_exchange("inner", "outer", "")
    declare(channel, "jobs")
    channel.bind_queue("jobs", "inner", "")
    with pytest.raises(Refusal, match="ACCESS_REFUSED - cannot publish to internal exchange"):
        publish(channel, "", exchange="inner")
    publish(channel, "", exchange="outer")
    assert model.ready("jobs") == ["job"]


@pytest.mark.parametrize(("kind", "reached"), [("direct", "a"), ("fanout", "abc"), ("topic", "ac")])
def test_the_types_of_exchanges(model: Model, kind: str, reached: str) -> None:
    """Each queue gets a message once, however many bindings lead to it."""
    channel, _ = model.channel()
    channel.declare_exchange("x", kind)
    for name, keys in {"a": ["red", "red.car"], "b": ["blue"], "c": ["red.#", "#"]}.items():
        declare(channel, name)
        for key in keys:
            channel.bind_queue(name, "x", key)
            channel.bind_queue(name, "x", key)  # the same binding again is no second one
    publish(channel, "red.car", exchange="x")
    assert {name for name in "abc" if model.ready(name) == ["job"]} == set(reached)


def test_headers_exchanges_look_at_the_headers(model: Model) -> None:
    """All of them, or any; what starts with ``x-`` counts only if that is said."""
    channel, _ = model.channel()
    bindings = {
        "all": {"x-match": "all", "size": 1, "color": "red"},
        "any": {"x-match": "any", "size": 1, "color": "red"},
        "there": {"size": None},
        "no-x": {"x-match": "all", "x-size": 2, "color": "red"},
        "with-x": {"x-match": "all-with-x", "x-size": 2, "color": "red"},
    }
    for name, arguments in bindings.items():
        declare(channel, name)
        channel.bind_queue(name, "amq.headers", "", arguments)
    publish(channel, "", exchange="amq.headers", headers={"color": "red"})
    assert {name for name in bindings if model.ready(name)} == {"any", "no-x"}
    publish(channel, "", "2", exchange="amq.headers", headers={"color": "red", "size": 1})
    assert {name for name in bindings if "2" in model.ready(name)} == {
        "all",
        "any",
        "there",
        "no-x",
    }
    with pytest.raises(Refusal, match="Invalid x-match field value"):
        channel.bind_queue("all", "amq.headers", "", {"x-match": "some"})


def test_exchanges_lead_to_exchanges_and_circles_end(model: Model) -> None:
    """Each is visited once; a queue at two ends of the way gets the message once."""
    channel, _ = model.channel()
    for name in ("one", "two"):
        channel.declare_exchange(name, "fanout")
    channel.bind_exchange("two", "one", "")
    channel.bind_exchange("one", "two", "")
    declare(channel, "jobs")
    channel.bind_queue("jobs", "one", "")
    channel.bind_queue("jobs", "two", "")
    publish(channel, "", exchange="one")
    assert model.ready("jobs") == ["job"]


def test_an_alternate_exchange_takes_what_no_binding_matches(model: Model) -> None:
    """Also one behind another exchange; one that does not exist is no error."""
    channel, heard = model.channel()
    channel.declare_exchange("main", "direct", arguments={"alternate-exchange": "spare"})
    publish(channel, "k", "lost", exchange="main", mandatory=True)
    channel.declare_exchange("spare", "fanout")
    declare(channel, "jobs")
    declare(channel, "known")
    channel.bind_queue("jobs", "spare", "")
    channel.bind_queue("known", "main", "known")
    publish(channel, "k", "a", exchange="main", mandatory=True)
    publish(channel, "known", "b", exchange="main")
    assert heard.heard == [("returned", 312, "NO_ROUTE", b"lost")]
    assert (model.ready("jobs"), model.ready("known")) == (["a"], ["b"])


def test_headers_can_name_further_routing_keys(model: Model) -> None:
    """``CC`` stays in the message, ``BCC`` does not."""
    channel, _ = model.channel()
    for name in ("a", "b", "c"):
        declare(channel, name)
    publish(channel, "a", headers={"CC": ["b"], "BCC": ["c", "a"], "mine": 1})
    assert [model.ready(name) for name in ("a", "b", "c")] == [["job"]] * 3
    assert get(channel, "b").headers == {"CC": ["b"], "mine": 1}
    with pytest.raises(Refusal, match="PRECONDITION_FAILED - invalid message"):
        publish(channel, "a", headers={"CC": "b"})


@pytest.mark.parametrize(
    ("expiration", "wrong"),
    [
        ("soon", "'soon': no_integer"),
        ("5s", "'5s': {leftover_string,\"s\"}"),
        ("-1", "'-1': {value_negative,-1}"),
        ("315360000001", "'315360000001': {value_too_large,315360000001}"),
    ],
)
def test_an_expiration_is_whole_milliseconds(model: Model, expiration: str, wrong: str) -> None:
    """RabbitMQ checks it when the message comes in."""
    channel, _ = model.channel()
    with pytest.raises(Refusal) as refusal:
        publish(channel, "jobs", expiration=expiration)
    assert refusal.value.text == f"PRECONDITION_FAILED - invalid expiration {wrong}"


def test_a_message_says_only_the_user_who_sends_it(model: Model) -> None:
    """Another name costs the channel."""
    channel, _ = model.channel()
    publish(channel, "jobs", user_id="guest")
    with pytest.raises(Refusal, match="user_id property set to 'root' but authenticated user"):
        publish(channel, "jobs", user_id="root")


def test_a_body_over_the_limit_is_refused() -> None:
    """16 MiB as 4.3 has it."""
    model = Model("4.3")
    channel, _ = model.channel()
    with pytest.raises(Refusal) as refusal:
        channel.publish("", "jobs", b"\0\0", bytes(16777217))
    assert refusal.value.text == (
        "PRECONDITION_FAILED - message size 16777217 is larger than configured max size 16777216"
    )


class TestReplies:
    """Direct reply-to."""

    def test_a_reply_comes_past_all_queues(self, model: Model) -> None:
        """The request carries the address; the answer is sent there like to a queue."""
        asking, answers = model.channel()
        answering, _ = model.channel(object())
        declare(answering, "jobs")
        consume(model, asking, "amq.rabbitmq.reply-to", "r", no_ack=True)
        publish(asking, "jobs", reply_to="amq.rabbitmq.reply-to", correlation_id="1")
        request = get(answering, "jobs").properties
        assert request.reply_to is not None
        assert request.reply_to.startswith("amq.rabbitmq.reply-to.")
        assert request.correlation_id == "1"
        assert answering.declare_queue(request.reply_to, passive=True)[1:] == (0, 1)
        publish(answering, request.reply_to, "42")
        tag, delivery_tag, redelivered, message = answers.last()
        assert (tag, delivery_tag, redelivered) == ("r", 1, False)
        assert (message.routing_key, message.body) == (request.reply_to, b"42")

    def test_a_mandatory_reply_is_returned_always_or_never(self, model: Model) -> None:
        """As each version does it; so `mandatory` is of no use there."""
        asking, _ = model.channel()
        answering, heard = model.channel(object(), confirms=True)
        declare(answering, "jobs")
        consume(model, asking, "amq.rabbitmq.reply-to", "r", no_ack=True)
        publish(asking, "jobs", reply_to="amq.rabbitmq.reply-to")
        address = get(answering, "jobs").properties.reply_to or ""
        for _ in range(2):
            publish(answering, address, mandatory=True)
            asking.close()
        returned = [what for what, *_ in heard.heard].count("returned")
        assert returned == (2 if model.version == "3.10" else 0)
        with pytest.raises(Refusal, match="NOT_FOUND - no queue 'amq.rabbitmq.reply-to"):
            answering.declare_queue(address, passive=True)

    def test_what_reply_consumers_may_not(self, model: Model) -> None:
        """Acknowledge, be two, or be missing when a request is sent."""
        channel, _ = model.channel()
        with pytest.raises(Refusal, match="fast reply consumer does not exist"):
            publish(channel, "jobs", reply_to="amq.rabbitmq.reply-to")
        with pytest.raises(Refusal, match="reply consumer cannot acknowledge"):
            channel.consume("amq.rabbitmq.reply-to", "r")
        channel.consume("amq.rabbitmq.reply-to", "r", no_ack=True)
        with pytest.raises(Refusal, match="reply consumer already set"):
            channel.consume("amq.rabbitmq.reply-to", "s", no_ack=True)
        channel.cancel("r")
        channel.consume("amq.rabbitmq.reply-to", "s", no_ack=True)


def test_priorities_of_a_quorum_queue() -> None:
    """Strict from 4.3 on; 4 is what a message without one has."""
    for version, order in {"3.10": ["none", "low", "high"], "4.3": ["high", "none", "low"]}.items():
        model = Model(version)
        channel, _ = model.channel()
        channel.declare_queue("jobs", durable=True, arguments=QUORUM)
        publish(channel, "jobs", "none")
        publish(channel, "jobs", "low", priority=1)
        publish(channel, "jobs", "high", priority=200)
        assert model.ready("jobs") == order
        assert [get(channel, "jobs").body.decode() for _ in order] == order


def test_priorities_of_a_classic_queue(model: Model) -> None:
    """Up to the queue's own limit; none is 0."""
    channel, _ = model.channel()
    declare(channel, "jobs", max_priority=5)
    for body, priority in {"none": None, "3": 3, "9": 9, "5": 5}.items():
        publish(channel, "jobs", body, priority=priority)
    assert model.ready("jobs") == ["9", "5", "3", "none"]
    declare(channel, "plain")
    publish(channel, "plain", "a")
    publish(channel, "plain", "b", priority=9)
    assert model.ready("plain") == ["a", "b"]
