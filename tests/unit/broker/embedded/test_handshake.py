"""The handshake: what is asked, what is taken, what is refused, and who hears why."""

from typing import Any

import pytest

from amqpjobs.broker.embedded.errors import Refusal
from amqpjobs.broker.embedded.server.handshake import Handshake
from amqpjobs.broker.embedded.server.login import Access
from amqpjobs.broker.embedded.server.methods import SIGNATURES, decode

SECRET = Access("guest", "secret")
CAPABLE = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True}}


def read(data: bytes) -> tuple[str, dict[str, Any]]:
    signature = SIGNATURES[int.from_bytes(data[7:11], "big")]
    return signature.name, decode(signature, data, 11, len(data) - 1)


def log_in(handshake: Handshake, **fields: Any) -> bytes:
    given = {
        "client_properties": CAPABLE,
        "mechanism": "PLAIN",
        "response": b"\0guest\0secret",
        "locale": "en_US",
    }
    return handshake.answer("connection.start-ok", given | fields)


def tune(handshake: Handshake, **fields: int) -> bytes:
    given = {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}
    return handshake.answer("connection.tune-ok", given | fields)


@pytest.fixture
def handshake() -> Handshake:
    return Handshake("4.3.6", SECRET, "/".__eq__)


@pytest.fixture
def tuning(handshake: Handshake) -> Handshake:
    log_in(handshake)
    return handshake


def refused(handshake: Handshake, code: int, text: str, told: bool) -> Any:
    """The next step is refused, and the client is told why, or not."""

    class Expectation:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: object, error: object, traceback: object) -> bool:
            assert isinstance(error, Refusal)
            assert (error.code, error.closes) == (code, "connection" if code != 403 else "channel")
            assert text in error.text
            assert handshake.tells(error) is told
            return True

    return Expectation()


def test_it_says_what_it_is_and_as_which_version_it_behaves() -> None:
    """Clients choose by the version; that it is RabbitMQ it does not claim."""
    name, start = read(Handshake("3.10.8", Access(), "/".__eq__).start())
    assert name == "connection.start"
    properties = start["server_properties"]
    assert properties["version"] == "3.10.8"
    assert properties["product"] == "amqpjobs embedded broker"
    assert properties["capabilities"]["publisher_confirms"] is True
    assert (start["version_major"], start["version_minor"]) == (0, 9)
    assert start["mechanisms"] == "AMQPLAIN PLAIN"


def test_a_client_that_knows_the_password_comes_in(handshake: Handshake) -> None:
    """Start, tune, open; the client's lower values count."""
    name, offer = read(log_in(handshake))
    assert name == "connection.tune"
    assert offer == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 60}
    assert tune(handshake, channel_max=7, frame_max=8192, heartbeat=5) == b""
    assert (handshake.channel_max, handshake.frame_max, handshake.heartbeat) == (7, 8192, 5)
    name, _ = read(handshake.answer("connection.open", {"virtual_host": "/"}))
    assert name == "connection.open-ok"
    assert handshake.state == "running"


@pytest.mark.parametrize("response", [b"\0guest\0wrong", b"\0other\0secret", b"\0\0"])
def test_a_wrong_login_is_refused_in_general_terms(handshake: Handshake, response: bytes) -> None:
    """Neither name nor password is repeated."""
    with refused(handshake, 403, "Login was refused using authentication mechanism PLAIN", True):
        log_in(handshake, response=response)


def test_an_old_client_is_not_told_of_its_wrong_login(handshake: Handshake) -> None:
    """It has not said that it understands it: as RabbitMQ, the broker just hangs up."""
    with refused(handshake, 403, "Login was refused", False):
        log_in(handshake, response=b"\0guest\0wrong", client_properties={})


@pytest.mark.parametrize("response", [b"", b"guest", b"guest\0guest", b"\0guest\0secret\0more"])
def test_a_malformed_response_is_refused_without_being_repeated(
    handshake: Handshake, response: bytes
) -> None:
    """It may hold a password."""
    with pytest.raises(Refusal) as refusal:
        log_in(handshake, response=response)
    assert refusal.value.text == "SYNTAX_ERROR - response invalid"


def test_an_unknown_mechanism_is_refused(handshake: Handshake) -> None:
    """The client is not told: it is not trusted yet."""
    with refused(handshake, 503, "unknown authentication mechanism 'MAGIC'", False):
        log_in(handshake, mechanism="MAGIC")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"frame_max": 8191}, "frame_max = 8191 is lower than the minimum allowed value (8192)"),
        ({"frame_max": 131073}, "frame_max = 131073 is higher than the maximum allowed value"),
        ({"frame_max": 0}, "frame_max = 0 is higher than the maximum allowed value (131072)"),
        ({"channel_max": 2048}, "channel_max = 2048 is higher than the maximum allowed value"),
        ({"channel_max": 0}, "channel_max = 0 (no limit) is higher than the maximum allowed"),
    ],
)
def test_limits_that_do_not_fit_are_refused(
    tuning: Handshake, fields: dict[str, int], text: str
) -> None:
    """In RabbitMQ's words, which are for its log: the client is not told."""
    with refused(tuning, 530, f"NOT_ALLOWED - negotiated {text}", False):
        tune(tuning, **fields)


def test_smaller_frames_were_allowed_before_4_0() -> None:
    """4096 bytes on 3.10."""
    handshake = Handshake("3.10.8", SECRET, "/".__eq__)
    log_in(handshake)
    assert tune(handshake, frame_max=4096) == b""


def test_another_virtual_host_is_not_found(tuning: Handshake) -> None:
    """The broker has none of that name."""
    tune(tuning)
    with refused(tuning, 530, "NOT_ALLOWED - vhost other not found", True):
        tuning.answer("connection.open", {"virtual_host": "other"})


def test_a_step_out_of_turn_is_refused(handshake: Handshake) -> None:
    """Before the login nobody is told why."""
    with refused(handshake, 504, "unexpected method in connection state starting", False):
        handshake.answer("connection.open", {"virtual_host": "/"})


def test_it_knows_what_the_client_can_do(handshake: Handshake) -> None:
    """Also when a stranger sends something else for its capabilities."""
    log_in(handshake)
    assert handshake.capable("connection.blocked")
    assert not handshake.capable("basic.nack")
    log_in(Handshake("4.3.6", SECRET, "/".__eq__), client_properties={"capabilities": "all"})
