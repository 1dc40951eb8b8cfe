"""What the doctor says of the nodes of a cluster, and of replicas."""

import pytest

from amqpjobs.broker.rabbitmq.addresses import Place
from amqpjobs.broker.rabbitmq.inspection.management_api import Replicas
from amqpjobs.broker.rabbitmq.profile import Profile
from amqpjobs.broker_url import Node
from amqpjobs.cli.doctor.broker import connection
from amqpjobs.cli.doctor.cluster import nodes_of, replicas_of
from amqpjobs.settings import load_settings


@pytest.mark.parametrize(
    ("members", "online", "nodes", "state", "words"),
    [
        (3, 3, 3, "ok", "3 replicas in 3 nodes, 3 online, leader rabbit@a"),
        (3, 2, 3, "warning", "3 replicas in 3 nodes, 2 online"),
        (1, 1, 3, "warning", "1 replica in 3 nodes, 1 online"),
        (2, 2, 3, "warning", "2 replicas in 3 nodes, 2 online"),
        (2, 2, 2, "warning", "2 replicas in 2 nodes, 2 online"),
        (3, 3, 5, "ok", "3 replicas in 5 nodes"),
        (5, 4, 5, "ok", "5 replicas in 5 nodes, 4 online"),
        (5, 3, 5, "warning", "5 replicas in 5 nodes, 3 online"),
        (3, 3, None, "ok", "3 replicas, 3 online"),
        (3, 2, None, "warning", "3 replicas, 2 online"),
    ],
)
def test_a_queue_that_one_more_node_would_stop_is_a_warning(
    members: int, online: int, nodes: int | None, state: str, words: str
) -> None:
    """Also one with fewer replicas than the cluster has nodes for."""
    [check] = replicas_of([Replicas("work", members, online, "rabbit@a")], nodes)
    assert (check.check, check.state) == ("replicas of 'work'", state)
    assert words in check.finding
    assert bool(check.fix) == (state == "warning")


@pytest.mark.parametrize("nodes", [1, None])
def test_nothing_is_said_of_replicas_on_a_single_node(nodes: int | None) -> None:
    """It has one of each queue, and no more are to be had."""
    assert list(replicas_of([Replicas("work", 1, 1, "rabbit@a")], nodes)) == []


def test_a_node_that_does_not_run_is_a_warning() -> None:
    """With its name."""
    [check] = nodes_of({"rabbit@a": True, "rabbit@b": False, "rabbit@c": True})
    assert check.state == "warning"
    assert check.finding == "3 nodes, of which 1 do not run: rabbit@b"
    [check] = nodes_of({"rabbit@a": True, "rabbit@b": True})
    assert (check.state, check.finding) == ("ok", "2 nodes, all run")
    [check] = nodes_of({"rabbit@a": True})
    assert (check.state, check.finding) == ("ok", "1 node: each queue has 1 replica")


def test_the_node_that_is_connected_is_named() -> None:
    """With its cluster, and how many others the URL has."""

    class Wire:
        place = Place(Node("rabbit-2", 5672), "10.0.0.2")
        profile = Profile((4, 3, 6), "RabbitMQ", "rabbit@shop")

    said = connection(Wire(), load_settings(url="amqp://rabbit-1,rabbit-2/"))  # type: ignore[arg-type]
    assert said.finding == (
        "to rabbit-2:5672 (10.0.0.2), cluster 'rabbit@shop'; the URL names 2 nodes"
    )
