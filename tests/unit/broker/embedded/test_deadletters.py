"""Dead letters: where they go, what is written on them, and when they end."""

from datetime import UTC, datetime
from typing import Any

import pytest

from amqpjobs.broker.embedded.model.messages import Message
from tests.unit.broker.embedded.model import Model, consume, declare, get, publish


@pytest.fixture(params=["classic", "quorum"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def deaths(message: Message) -> list[Any]:
    found = message.headers["x-death"]
    assert isinstance(found, list)
    return found


def test_what_is_written_on_a_dead_letter(model: Model, kind: str) -> None:
    """Its death, the first one beside it, and from 3.13 on the last one."""
    channel, _ = model.channel()
    channel.declare_exchange("graves", "fanout")
    declare(channel, "dead")
    channel.bind_queue("dead", "graves", "")
    declare(channel, "jobs", queue_type=kind, dead_letter_exchange="graves")
    channel.bind_queue("jobs", "amq.topic", "#")
    publish(
        channel, "some.key", exchange="amq.topic", expiration="1000", headers={"a": 1, "CC": ["b"]}
    )
    model.clock.advance(2)
    letter = get(channel, "dead")
    first = {
        "x-first-death-reason": "expired",
        "x-first-death-queue": "jobs",
        "x-first-death-exchange": "amq.topic",
    }
    last = {name.replace("first", "last"): value for name, value in first.items()}
    at = int(model.clock.time() - 1)
    assert letter.headers == {
        "a": 1,
        "CC": ["b"],
        **first,
        **(last if model.version == "4.3" else {}),
        "x-death": [
            {
                "count": 1,
                "reason": "expired",
                "queue": "jobs",
                "time": datetime.fromtimestamp(at, UTC),
                "exchange": "amq.topic",
                "routing-keys": ["some.key", "b"],
                "original-expiration": "1000",
            }
        ],
    }
    assert letter.expiration is None
    assert (letter.exchange, letter.routing_key) == ("graves", "some.key")


def test_the_same_death_again_is_counted(model: Model) -> None:
    """The latest stands first; the first and the last are told apart."""
    channel, _ = model.channel()
    to_back = {"dead_letter_exchange": "", "dead_letter_routing_key": "back"}
    to_jobs = {"dead_letter_exchange": "", "dead_letter_routing_key": "jobs"}
    declare(channel, "jobs", **to_back)
    declare(channel, "back", **to_jobs, message_ttl=1000)
    publish(channel, "jobs")
    for tag in (1, 2):
        channel.get("jobs")
        channel.reject(tag, requeue=False)
        model.clock.advance(1.5)
    letter = get(channel, "jobs")
    assert [(d["queue"], d["reason"], d["count"]) for d in deaths(letter)] == [
        ("back", "expired", 2),
        ("jobs", "rejected", 2),
    ]
    assert letter.headers["x-first-death-queue"] == "jobs"
    assert letter.headers.get("x-last-death-queue") == ("back" if model.version == "4.3" else None)


def test_a_dead_letter_that_failed_before_is_redelivered_from_4_3_on(
    model: Model, kind: str
) -> None:
    """Of every type of queue; what expired never failed."""
    channel, _ = model.channel()
    letters = {"dead_letter_exchange": "", "dead_letter_routing_key": "dead"}
    declare(channel, "dead")
    declare(channel, "jobs", queue_type=kind, **letters)
    publish(channel, "jobs", "failed")
    publish(channel, "jobs", "expired", expiration="1")
    channel.get("jobs")
    model.clock.advance(1)
    channel.reject(1, requeue=False)
    redelivered = {}
    for _ in range(2):
        delivery = channel.get("dead")
        assert delivery is not None
        redelivered[delivery.message.body] = delivery.redelivered
    assert redelivered == {b"expired": False, b"failed": model.version == "4.3"}


def test_3_10_turns_the_history_round_at_every_death(model: Model) -> None:
    """But for the latest death, which stands first."""
    channel, _ = model.channel()
    for name, following in {"a": "b", "b": "c", "c": "d", "d": "e", "e": "a"}.items():
        declare(channel, name, dead_letter_exchange="", dead_letter_routing_key=following)
    publish(channel, "a")
    for tag, name in enumerate("abcd", 1):
        channel.get(name)
        channel.reject(tag, requeue=False)
    order = [death["queue"] for death in deaths(get(channel, "e"))]
    assert order == (["d", "b", "a", "c"] if model.version == "3.10" else ["d", "c", "b", "a"])


def test_a_circle_without_a_client_in_it_ends(model: Model, kind: str) -> None:
    """The message is dropped where it would begin again."""
    channel, _ = model.channel()
    for name, following in {"a": "b", "b": "a"}.items():
        declare(
            channel,
            name,
            queue_type=kind,
            message_ttl=1000,
            dead_letter_exchange="",
            dead_letter_routing_key=following,
        )
    publish(channel, "a")
    model.clock.advance(1.5)
    assert model.ready("b") == ["job"]
    model.clock.advance(1.5)
    assert (model.ready("a"), model.ready("b")) == ([], [])


def test_only_up_to_3_13_a_history_is_believed_that_a_publisher_sends(model: Model) -> None:
    """There what seems a circle is dropped."""
    channel, _ = model.channel()
    declare(channel, "a", message_ttl=1000, dead_letter_exchange="", dead_letter_routing_key="b")
    declare(channel, "b")
    publish(channel, "a")
    model.clock.advance(1.5)
    letter = get(channel, "b")
    declare(channel, "c", message_ttl=1000, dead_letter_exchange="", dead_letter_routing_key="a")
    channel.publish("", "c", letter.header, b"again")
    model.clock.advance(1.5)
    if model.version == "3.10":
        assert model.ready("a") == []
    else:
        assert model.ready("a") == ["again"]
        assert [death["queue"] for death in deaths(get(channel, "a"))] == ["c"]


def test_without_its_exchange_a_dead_letter_is_dropped(model: Model, kind: str) -> None:
    """Nobody hears of it."""
    channel, _ = model.channel()
    declare(channel, "jobs", queue_type=kind, dead_letter_exchange="missing", max_length=1)
    publish(channel, "jobs", "a")
    publish(channel, "jobs", "b")
    assert model.ready("jobs") == ["b"]


def test_dead_letters_keep_their_order(model: Model, kind: str) -> None:
    """Of what is rejected together, and of what expires."""
    channel, _ = model.channel()
    declare(channel, "dead")
    declare(
        channel,
        "jobs",
        queue_type=kind,
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
    )
    for body in "abcd":
        publish(channel, "jobs", body)
    consume(model, channel, "jobs")
    channel.nack(4, multiple=True, requeue=False)
    assert model.ready("dead") == ["a", "b", "c", "d"]


def test_the_next_ladder_step_gets_it_through_exchanges(model: Model) -> None:
    """Two steps of the delay ladder: exchange to exchange, and queues with a time to live."""
    channel, _ = model.channel()
    for level, following in {1: "0", 0: "deliver"}.items():
        exchange = f"delay.{level}"
        channel.declare_exchange(exchange, "topic", durable=True)
        declare(
            channel,
            exchange,
            queue_type="quorum",
            message_ttl=1000 << level,
            dead_letter_exchange=f"delay.{following}",
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
        )
    channel.declare_exchange("delay.deliver", "topic", durable=True)
    for level in (1, 0):
        prefix = "*." * (1 - level)
        following = f"delay.{level - 1}" if level else "delay.deliver"
        channel.bind_queue(f"delay.{level}", f"delay.{level}", f"{prefix}1.#")
        channel.bind_exchange(following, f"delay.{level}", f"{prefix}0.#")
    declare(channel, "jobs", queue_type="quorum")
    channel.bind_queue("jobs", "delay.deliver", "#.jobs")
    publish(channel, "1.1.jobs", "three", exchange="delay.1")
    publish(channel, "0.1.jobs", "one", exchange="delay.1")
    publish(channel, "0.0.jobs", "none", exchange="delay.1")
    seen = []
    for _ in range(3):
        seen.append(model.ready("jobs"))
        model.clock.advance(1.25)
    assert [*seen, model.ready("jobs")] == [
        ["none"],
        ["none", "one"],
        ["none", "one"],
        ["none", "one", "three"],
    ]


def test_failures_go_on_in_the_next_quorum_queue(new: Model) -> None:
    """4.3 keeps the count of failed deliveries with a dead letter."""
    channel, _ = new.channel()
    declare(channel, "dead", queue_type="quorum")
    declare(
        channel,
        "jobs",
        queue_type="quorum",
        delivery_limit=1,
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
    )
    publish(channel, "jobs")
    for tag in (1, 2):
        channel.get("jobs")
        channel.reject(tag)
    delivery = channel.get("dead")
    assert delivery is not None
    assert delivery.redelivered
    assert delivery.message.headers["x-delivery-count"] == 2


class TestAtLeastOnce:
    """The strategy of quorum queues that loses no dead letter."""

    def queue(self, model: Model, **arguments: Any) -> None:
        channel, _ = model.channel()
        declare(
            channel,
            "jobs",
            queue_type="quorum",
            dead_letter_exchange="graves",
            dead_letter_strategy="at-least-once",
            overflow="reject-publish",
            **arguments,
        )

    def test_a_letter_waits_until_it_can_be_routed(self, model: Model) -> None:
        """It is tried again every three minutes."""
        channel, _ = model.channel()
        self.queue(model, message_ttl=1000)
        publish(channel, "jobs")
        model.clock.advance(2)
        assert model.ready("jobs") == []
        channel.declare_exchange("graves", "fanout")
        declare(channel, "dead")
        channel.bind_queue("dead", "graves", "")
        model.clock.advance(100)
        assert model.ready("dead") == []
        model.clock.advance(90)
        assert model.ready("dead") == ["job"]
        assert deaths(get(channel, "dead"))[0]["count"] == 1

    def test_a_letter_that_a_queue_refuses_waits_for_that_queue_only(self, model: Model) -> None:
        """The others do not get it twice."""
        channel, _ = model.channel()
        self.queue(model, message_ttl=1000)
        channel.declare_exchange("graves", "fanout")
        for name, limit in {"full": 0, "dead": 9}.items():
            declare(channel, name, max_length=limit, overflow="reject-publish")
            channel.bind_queue(name, "graves", "")
        publish(channel, "jobs")
        model.clock.advance(2)
        assert model.ready("dead") == ["job"]
        model.clock.advance(400)
        assert model.ready("dead") == ["job"]
        channel.delete_queue("full")
        declare(channel, "full")
        channel.bind_queue("full", "graves", "")
        model.clock.advance(200)
        assert (model.ready("full"), model.ready("dead")) == (["job"], ["job"])

    def test_letters_count_towards_the_limit_and_only_32_are_tried(self, model: Model) -> None:
        """What cannot arrive holds up what is behind it."""
        channel, heard = model.channel(confirms=True)
        self.queue(model, message_ttl=1000, max_length=40)
        for number in range(40):
            publish(channel, "jobs", str(number))
        model.clock.advance(2)
        publish(channel, "jobs", "passes")
        publish(channel, "jobs", "refused")
        assert [what for what, _ in heard.heard][-2:] == ["confirm", "refuse"]
        channel.declare_exchange("graves", "fanout")
        declare(channel, "dead")
        channel.bind_queue("dead", "graves", "")
        model.clock.advance(200)
        assert model.ready("dead") == [*map(str, range(40)), "passes"]
        publish(channel, "jobs", "later")
        assert heard.heard[-1][0] == "confirm"

    def test_dropping_the_oldest_has_no_such_letters(self, model: Model) -> None:
        """RabbitMQ then falls back to the other strategy."""
        channel, _ = model.channel()
        declare(
            channel,
            "jobs",
            queue_type="quorum",
            dead_letter_exchange="graves",
            dead_letter_strategy="at-least-once",
            message_ttl=1000,
        )
        publish(channel, "jobs")
        model.clock.advance(2)
        channel.declare_exchange("graves", "fanout")
        declare(channel, "dead")
        channel.bind_queue("dead", "graves", "")
        model.clock.advance(400)
        assert model.ready("dead") == []
