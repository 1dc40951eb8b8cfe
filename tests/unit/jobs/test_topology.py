"""Queues as values: names, priorities, and what they need on the broker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import Queue
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.queue import LEVELS, MAX_NAME, Lane, lanes_of, route_of
from amqpjobs.jobs.queue.topology import (
    CONTROL_EXCHANGE,
    DEAD_EXCHANGE,
    DELAY_DELIVER,
    DELAY_UNROUTABLE,
    KEPT_FOR_GOOD,
    BindingDeclaration,
    ExchangeDeclaration,
    topology_of,
)


def test_a_queue_without_priorities_has_one_lane():
    """Its own name, taking every turn."""
    assert lanes_of(Queue("q")) == (Lane(None, "q", 1),)


def test_each_priority_is_a_queue_and_the_middle_one_has_the_plain_name():
    """A stranger who knows only the name gets the middle priority."""
    queue = Queue("q", priorities={"high": 6, "normal": 3, "low": 1})
    assert lanes_of(queue) == (
        Lane("high", "q.high", 6),
        Lane("normal", "q", 3),
        Lane("low", "q.low", 1),
    )


@pytest.mark.parametrize(
    ("names", "plain"), [("a", "a"), ("ab", "b"), ("abc", "b"), ("abcd", "c"), ("abcde", "c")]
)
def test_of_an_even_number_of_priorities_the_less_urgent_of_the_middle_is_plain(names, plain):
    """A stranger must not get ahead of those who know."""
    queue = Queue("q", priorities=dict.fromkeys(names, 1))
    assert [lane.priority for lane in lanes_of(queue) if lane.queue == "q"] == [plain]


def test_a_priority_leads_to_its_queue():
    """None leads to the plain one."""
    queue = Queue("q", priorities={"high": 6, "normal": 3, "low": 1})
    routes = {p: route_of(queue, p) for p in ("high", "normal", "low", None)}
    assert routes == {
        "high": ("q.high", None), "normal": ("q", None), "low": ("q.low", None), None: ("q", None)
    }  # fmt: skip


def test_a_native_priority_is_a_property_of_the_message():
    """On classic queues with `max_priority`: 0 to that number."""
    queue = Queue("q", type="classic", max_priority=10)
    assert route_of(queue, 0) == ("q", 0)
    assert route_of(queue, 10) == ("q", 10)
    assert route_of(queue, None) == ("q", None)


@pytest.mark.parametrize(
    ("queue", "priority", "hint"),
    [
        (Queue("q"), "high", "give it some"),
        (Queue("q"), 3, "give it some"),
        (Queue("q", priorities={"a": 2, "b": 1}), "c", "it has 'a', 'b'"),
        (Queue("q", priorities={"a": 2, "b": 1}), 1, "it has 'a', 'b'"),
        (Queue("q", type="classic", max_priority=3), 4, "0 to 3"),
        (Queue("q", type="classic", max_priority=3), -1, "0 to 3"),
        (Queue("q", type="classic", max_priority=3), "high", "0 to 3"),
    ],
)
def test_a_priority_that_a_queue_lacks_is_an_error_that_says_which_there_are(queue, priority, hint):
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match=hint):
        route_of(queue, priority)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": "amq.rabbit"}, "RabbitMQ's own"),
        ({"name": "x" * (MAX_NAME + 1)}, "over 199 bytes"),
        ({"name": "ü" * (MAX_NAME // 2 + 1)}, "over 199 bytes"),
        ({"name": "x" * 195, "priorities": {"first": 1, "b": 1}}, "over 199 bytes"),
        ({"name": "q", "priorities": {"a": 0}}, "whole numbers from 1"),
        ({"name": "q", "priorities": {"a": -1, "b": 3}}, "whole numbers from 1"),
        ({"name": "q", "priorities": {"a": 1.5}}, "whole numbers from 1"),
        ({"name": "q", "priorities": {"dead": 1, "b": 1}}, "call the priority otherwise"),
        ({"name": "q", "priorities": {"parked": 1}}, "call the priority otherwise"),
        ({"name": "q", "priorities": {"": 1}}, "call the priority otherwise"),
        ({"name": "q", "type": "stream"}, "'quorum' or 'classic'"),
        ({"name": "q", "max_priority": 5}, "type='classic'"),
        ({"name": "q", "type": "classic", "max_priority": 5, "priorities": {"a": 1}}, "without"),
        ({"name": "q", "type": "classic", "max_priority": 0}, "from 1 to 255"),
        ({"name": "q", "type": "classic", "max_priority": 256}, "from 1 to 255"),
        ({"name": "q", "delivery_limit": 0}, "delivery_limit"),
    ],
)
def test_a_queue_that_cannot_work_is_an_error_when_it_is_defined(arguments, hint):
    """It names the queue, and what to write."""
    with pytest.raises(ConfigurationError, match=hint) as caught:
        Queue(**arguments)
    assert str(caught.value).startswith(f"Queue({arguments['name']!r})")


def test_a_queue_keeps_its_own_copy_of_the_priorities():
    """Changing the dict that was given changes no queue."""
    weights = {"high": 2, "low": 1}
    queue = Queue("q", priorities=weights)
    weights["high"] = 99
    assert queue.priorities == {"high": 2, "low": 1}
    with pytest.raises(TypeError):
        queue.priorities["high"] = 3


def test_queues_of_one_name_meet_in_a_set():
    """A queue is a value that can be looked up."""
    assert len({Queue("q"), Queue("q"), Queue("r")}) == 2


def test_the_topology_of_a_queue_is_its_lanes_its_dead_letters_and_the_parked_ones():
    """All durable, quorum by default, bound so that the broker's own dead letters meet ours."""
    made = topology_of([Queue("q", priorities={"high": 2, "low": 1}, delivery_limit=5)])
    assert made.exchanges == (
        ExchangeDeclaration(DEAD_EXCHANGE, "direct"),
        ExchangeDeclaration(CONTROL_EXCHANGE, "direct"),
        ExchangeDeclaration(DELAY_UNROUTABLE, "fanout"),
        ExchangeDeclaration(DELAY_DELIVER, "topic", {"alternate-exchange": DELAY_UNROUTABLE}),
    )
    bits = "*." * LEVELS
    assert made.bindings == (
        BindingDeclaration(DELAY_UNROUTABLE, DELAY_UNROUTABLE, ""),
        BindingDeclaration(DEAD_EXCHANGE, "q.dead", "q.dead"),
        BindingDeclaration(DELAY_DELIVER, "q.high", f"{bits}q.high"),
        BindingDeclaration(DELAY_DELIVER, "q", f"{bits}q"),
    )
    arguments = {d.name: dict(d.arguments) for d in made.queues}
    lane = {
        "x-queue-type": "quorum", "x-delivery-limit": 5, "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD_EXCHANGE, "x-dead-letter-routing-key": "q.dead",
        "x-dead-letter-strategy": "at-least-once",
    }  # fmt: skip
    keep = {"x-queue-type": "quorum", "x-delivery-limit": KEPT_FOR_GOOD}
    assert arguments == {
        DELAY_UNROUTABLE: keep, "q.dead": keep, "q.parked": keep, "q.high": lane, "q": lane,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["*", "a.#", "a.*.b"])
def test_a_name_that_would_be_a_wildcard_is_refused(name):
    """The delays address a queue by a routing key that ends in its name."""
    with pytest.raises(ConfigurationError, match="wildcard"):
        Queue(name)


def test_the_dead_letters_are_declared_before_what_dies_into_them():
    """A job must have somewhere to go from the first moment."""
    names = [d.name for d in topology_of([Queue("q")]).queues]
    assert names.index("q.dead") < names.index("q")


def test_a_classic_queue_gets_nothing_that_only_quorum_queues_know():
    """RabbitMQ refuses such arguments."""
    made = topology_of([Queue("q", type="classic", max_priority=9)])
    arguments = {d.name: dict(d.arguments) for d in made.queues}["q"]
    assert arguments == {
        "x-queue-type": "classic", "x-max-priority": 9, "x-overflow": "reject-publish",
        "x-dead-letter-exchange": DEAD_EXCHANGE, "x-dead-letter-routing-key": "q.dead",
    }  # fmt: skip


@pytest.mark.parametrize(
    "queues",
    [
        [Queue("q"), Queue("q.dead")],
        [Queue("q"), Queue("q.parked")],
        [Queue("q.high"), Queue("q", priorities={"high": 2, "low": 1})],
    ],
)
def test_two_queues_that_would_be_one_on_the_broker_are_an_error(queues):
    """Jobs of one would be consumed as the other's."""
    with pytest.raises(ConfigurationError, match="two queues of the app"):
        topology_of(queues)


@given(st.dictionaries(st.text("abcxyz", min_size=1, max_size=3), st.integers(1, 9), max_size=6))
def test_every_lane_has_a_queue_of_its_own_and_exactly_one_the_plain_name(priorities):
    """Whatever the priorities are called."""
    names = [lane.queue for lane in lanes_of(Queue("q", priorities=priorities))]
    assert len(set(names)) == len(names) == max(1, len(priorities))
    assert names.count("q") == 1
