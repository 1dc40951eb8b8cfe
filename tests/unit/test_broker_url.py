"""The URL of RabbitMQ: one node, or several."""

import pytest

from amqpjobs.broker_url import BrokerUrl, Node, parse_broker_url
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import Settings, load_settings


def nodes(given: str) -> list[str]:
    return [str(node) for node in parse_broker_url(given).nodes]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("amqp://host/", ["host:5672"]),
        ("amqp://u:p@a,b,c/v", ["a:5672", "b:5672", "c:5672"]),
        ("amqp://u:p@a:1,b,c:65535", ["a:1", "b:5672", "c:65535"]),
        ("amqps://a,b:5673/", ["a:5671", "b:5673"]),
        ("amqp://u:p@[::1],[fe80::1%25eth0]:5673,10.0.0.1/v",
         ["[::1]:5672", "[fe80::1%25eth0]:5673", "10.0.0.1:5672"]),
        ("amqp://u:p@A.Example,b/", ["a.example:5672", "b:5672"]),
        ("amqp://u:a,b@host/", ["host:5672"]),
        ("amqp://a:5672,a:5673/", ["a:5672", "a:5673"]),
    ],
)  # fmt: skip
def test_a_url_names_one_node_or_several(given: str, found: list[str]) -> None:
    """Each with its port, or that of the scheme."""
    assert nodes(given) == found


def test_login_and_virtual_host_are_those_of_all_nodes() -> None:
    """Unquoted, as RabbitMQ wants them."""
    url = parse_broker_url("amqps://u%40x:p%2Fw@a,b/v%2f1?heartbeat=5")
    assert (url.user, url.password, url.vhost) == ("u@x", "p/w", "v/1")
    assert url.encrypted
    plain = parse_broker_url("amqp://a")
    assert (plain.user, plain.password, plain.vhost, plain.encrypted) == (None, None, "/", False)


def test_a_url_of_one_of_the_nodes_has_everything_else() -> None:
    """For a child process, a proxy, or one attempt to connect."""
    url = parse_broker_url("amqp://u:p%40w@a:5673,[::1]/v%2f1?x=1")
    assert url.at(url.nodes[1]) == "amqp://u:p%40w@[::1]:5672/v%2f1"
    assert url.at(Node("127.0.0.1", 7)) == "amqp://u:p%40w@127.0.0.1:7/v%2f1"
    assert url.at(*url.nodes) == "amqp://u:p%40w@a:5673,[::1]:5672/v%2f1"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("amqp://u:hunter2@a,,b/", "host 2 of 3 is missing"),
        ("amqp://u:hunter2@a,/", "host 2 of 2 is missing"),
        ("amqp://u:hunter2@,b/", "host 1 of 2 is missing"),
        ("amqp://u:hunter2@a:x,b/", "host 1 of 2 is no host, or its port no number"),
        ("amqp://u:hunter2@a,b:0/", "host 2 of 2"),
        ("amqp://u:hunter2@a,b:70000/", "host 2 of 2"),
        ("amqp://u:hunter2@a, b/", "host 2 of 2"),
        ("amqp://u:hunter2@a,[hunter2]/", "host 2 of 2"),
        ("amqp://u:hunter2@a,::1/", "host 2 of 2"),
        ("amqp://u:hunter2@a,amqps://u:hunter2@b/", "has several URLs"),
        ("amqp://u:hunter2@a/v;amqp://u:hunter2@b/v", "has several URLs"),
        ("amqp://u:hunter2@a,b,a:5672/", "names a node twice"),
        ("amqp://u:12/hunter2@a,b/v", "an @ behind its host"),
        ("amqp://u:hunter2", "not a URL of RabbitMQ"),
        ("amqp://u:hunter2@", "not a URL of RabbitMQ"),
        ("http://u:hunter2@a,b/", "not a URL of RabbitMQ"),
    ],
)
def test_what_is_wrong_with_a_url_is_said_without_a_password(given: str, words: str) -> None:
    """By the number of the host: its text may be a part of the password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_broker_url(given)
    assert "hunter2" not in str(caught.value)


def test_no_form_of_a_url_shows_its_password() -> None:
    """It is in tracebacks, with the values of all variables."""
    url: BrokerUrl = load_settings(url="amqp://user:hunter2@a,b/v").broker_url
    assert "hunter2" not in f"{url!r} {url}"
    assert "a" in repr(url)


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        (
            "amqp://user:hunter2@a:5672,b:5672,[::1]:5672/v",
            "amqp://user@a:5672,b:5672,[::1]:5672/v",
        ),
        ("amqp://a:5672,b:5672/v", "amqp://a:5672,b:5672/v"),
        ("amqps://a,[::1]:5671/", "amqps://a,[::1]:5671/"),
        ("amqp://user:hunter2,b/", "amqp://user,b/"),
    ],
)
def test_the_nodes_are_shown_in_messages(given: str, safe: str) -> None:
    """Without the password."""
    assert load_settings(url=given).safe_url == safe


def test_settings_of_one_node_are_for_one_attempt() -> None:
    """With a single node they are the same settings."""
    settings = Settings(url="amqp://u:p@a,b/v")  # type: ignore[arg-type]
    there = settings.at(settings.broker_url.nodes[1])
    assert there.url.get_secret_value() == "amqp://u:p@b:5672/v"
    single = Settings(url="amqp://u:p@a/v")  # type: ignore[arg-type]
    assert single.at(single.broker_url.nodes[0]) is single
