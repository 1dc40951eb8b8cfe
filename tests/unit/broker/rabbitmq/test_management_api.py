"""RabbitMQ's management API on the nodes of a cluster, and where it is."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from amqpjobs.broker.rabbitmq.inspection import management_api
from amqpjobs.broker.rabbitmq.inspection.management_api import (
    NotAnswered,
    address_of,
    addresses_of_api,
    nodes_of_cluster,
    replicas,
)
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings, load_settings


@contextmanager
def answering(status: int, answer: Any, asked: list[str]) -> Iterator[int]:
    """An API that answers so to everything; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.server.server_port}{self.path}")  # type: ignore[attr-defined]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def dead_port() -> int:
    """Where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def api_at(*ports: int) -> Settings:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return load_settings(url="amqp://u:p@a,b/v", management_url=f"http://{hosts}")


ROWS = [
    {"name": "work", "type": "quorum", "members": ["a", "b", "c"], "online": ["a"], "leader": "a"},
    {"name": "old", "type": "classic"},
]


def test_a_node_that_does_not_answer_is_passed_over(dead_port: int) -> None:
    """And the one that did is asked first from then on."""
    asked: list[str] = []
    with ExitStack() as stack:
        broken = stack.enter_context(answering(503, {}, asked))
        good = stack.enter_context(answering(200, ROWS, asked))
        settings = api_at(dead_port, broken, good)
        [found] = replicas(settings)
        assert (found.members, found.online, found.leader) == (3, 1, "a")
        assert (found.queue, found.majority) == ("work", 2)
        assert address_of(settings) == f"http://127.0.0.1:{good}"
        replicas(settings)
    assert asked == [f"{port}/api/queues/v" for port in (broken, good, good)]


def test_every_node_is_named_when_none_answers(dead_port: int) -> None:
    """With its problem."""
    with answering(500, {}, []) as broken, pytest.raises(NotAnswered) as caught:
        replicas(api_at(dead_port, broken))
    assert f"http://127.0.0.1:{dead_port} (" in str(caught.value)
    assert f"http://127.0.0.1:{broken} answers 500: see AMQPJOBS_MANAGEMENT_URL" in str(
        caught.value
    )


def test_a_refused_user_is_not_tried_on_the_other_nodes() -> None:
    """Users are the same in all of a cluster."""
    asked: list[str] = []
    with (
        answering(401, {}, asked) as one,
        answering(200, [], asked) as other,
        pytest.raises(NotAnswered, match="set_user_tags USER management"),
    ):
        nodes_of_cluster(api_at(one, other))
    assert asked == [f"{one}/api/nodes"]


@pytest.mark.parametrize(
    ("url", "given", "found"),
    [
        ("amqp://a/", None, ["http://a:15672"]),
        ("amqps://a:5671,b,[::1]/", None, ["https://a:15671", "https://b:15671", "https://[::1]:15671"]),
        ("amqp://a:5672,a:5673/", None, ["http://a:15672"]),
        ("amqp://a/", "http://m/", ["http://m"]),
        ("amqp://a/", "https://m:1,n:2/prefix/", ["https://m:1/prefix", "https://n:2/prefix"]),
    ],
)  # fmt: skip
def test_where_it_is(url: str, given: str | None, found: list[str]) -> None:
    """On each node; as the settings say, else on RabbitMQ's usual port."""
    assert list(addresses_of_api(load_settings(url=url, management_url=given))) == found


@pytest.mark.parametrize("given", ["m:15672", "ftp://m", "http://m,,n", "http://m:x,n", "http://"])
def test_what_is_no_url_of_it_is_told_with_what_to_write(given: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError, match="http://rabbit-1:15672,rabbit-2:15672"):
        addresses_of_api(load_settings(url="amqp://a/", management_url=given))


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test knows what answered in another."""
    monkeypatch.setattr(management_api, "_answered", {})
