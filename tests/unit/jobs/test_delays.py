"""The ladder of delays, followed here as RabbitMQ follows its bindings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.queue.delays import destination_of, ladder, level_name, wait_route
from amqpjobs.jobs.queue.queue import LEVELS, MAX_NAME, Queue
from amqpjobs.jobs.queue.topology import DELAY_DELIVER, topology_of

WHOLE = ladder(range(LEVELS))

names = st.text("abc.", min_size=1, max_size=MAX_NAME).filter(
    lambda name: not name.startswith("amq.")
)


def matches(pattern, key):
    """A topic binding: `*` is one word, `#` any number of them."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(matches(pattern[1:], key[i:]) for i in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and matches(pattern[1:], key[1:])


def bound_to(topology, exchange, routing_key):
    return [
        binding
        for binding in topology.bindings
        if binding.exchange == exchange
        and matches(binding.routing_key.split("."), routing_key.split("."))
    ]


def follow(seconds, destination):
    """The milliseconds that a message waits on its way, and where it comes out."""
    exchange, key = wait_route(seconds, destination)
    waits = {queue.name: queue.arguments for queue in WHOLE.queues}
    waited = 0
    while exchange != DELAY_DELIVER:
        [binding] = bound_to(WHOLE, exchange, key)
        if binding.to == "queue":
            arguments = waits[binding.target]
            waited += arguments["x-message-ttl"]
            exchange = arguments["x-dead-letter-exchange"]
            assert "x-dead-letter-routing-key" not in arguments
        else:
            exchange = binding.target
    return waited, key


@given(st.integers(1, LONGEST_DELAY), names)
def test_a_message_waits_for_its_delay_and_no_other(seconds, destination):
    """At each exchange there is one way to go; the waits along it add up to the delay."""
    waited, key = follow(seconds, destination)
    assert waited == seconds * 1000
    assert destination_of(key) == destination
    assert len(key.encode()) <= 255


@given(st.sets(names, min_size=2, max_size=6), st.integers(1, LONGEST_DELAY))
def test_it_comes_out_at_its_queue_and_at_no_other(queues, seconds):
    """Names with dots in them are parts of a routing key, and `b` is not the end of `a.b`."""
    topology = topology_of([Queue(name) for name in queues if not is_derived(name, queues)])
    for destination in queues:
        _, key = wait_route(seconds, destination)
        reached = {binding.target for binding in bound_to(topology, DELAY_DELIVER, key)}
        assert reached == {destination} & {queue.name for queue in topology.queues}


def is_derived(name, queues):
    return any(name in (f"{other}.dead", f"{other}.parked") for other in queues)


def test_a_delay_starts_at_the_level_of_its_highest_bit():
    """So that short delays need few levels."""
    assert [wait_route(seconds, "q")[0] for seconds in (1, 2, 3, 4, 600, LONGEST_DELAY)] == [
        level_name(level) for level in (0, 1, 1, 2, 9, 27)
    ]


@pytest.mark.parametrize("seconds", [0, -1, LONGEST_DELAY + 1])
def test_what_the_ladder_does_not_have_is_refused(seconds):
    """Longer than eight years, or nothing at all."""
    with pytest.raises(ConfigurationError, match="at most"):
        wait_route(seconds, "q")


def test_every_level_keeps_what_it_cannot_pass_on():
    """At-least-once dead-lettering needs all of these; without a delivery limit a look would send
    the first to the end."""
    for queue in WHOLE.queues:
        arguments = queue.arguments
        assert arguments["x-dead-letter-strategy"] == "at-least-once"
        assert arguments["x-overflow"] == "reject-publish"
        assert arguments["x-queue-type"] == "quorum"
        assert arguments["x-delivery-limit"] >= 1_000_000
        assert "x-expires" not in arguments
