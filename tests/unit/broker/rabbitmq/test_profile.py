"""What follows from the version that a broker says it has."""

import pytest

from amqpjobs.broker.rabbitmq.profile import EMBEDDED, Profile, profile_of


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("3.10.8", (3, 10, 8)), ("4.3.6", (4, 3, 6)), ("4.0.0-rc.1", (4, 0, 0)),
        ("3.13.7+5.g1234", (3, 13, 7)), ("4.1", (4, 1)), ("", (0,)), ("unknown", (0,)),
    ],
)  # fmt: skip
def test_a_version_is_read_as_numbers(said, version):
    """So that 3.10 comes after 3.9."""
    assert profile_of({"version": said, "product": "RabbitMQ"}).version == version


@pytest.mark.parametrize("said", [None, 4, b"4.3.6", ["4"], {}])
def test_a_version_that_is_no_text_is_none(said):
    """A clone may say anything."""
    profile = profile_of({"version": said, "product": said})
    assert (profile.version, profile.product) == ((0,), "unknown")
    assert not profile.supported


def test_a_server_that_says_nothing_is_not_supported():
    """It is not RabbitMQ."""
    assert not profile_of({}).supported


@pytest.mark.parametrize(
    ("version", "supported", "counts", "closes"),
    [
        ((3, 9, 29), False, True, True),
        ((3, 10), True, True, True),
        ((3, 13, 7), True, True, True),
        ((4, 2, 9), True, True, True),
        ((4, 3), True, False, False),
        ((4, 10, 1), True, False, False),
        ((5, 0, 0), True, False, False),
    ],
)
def test_what_a_version_does(version, supported, counts, closes):
    """Supported from 3.10; from 4.3 giving back is not counted, and a late ack costs less."""
    profile = Profile(version, "RabbitMQ")
    assert profile.supported is supported
    assert profile.nack_counts is counts
    assert profile.late_ack_closes_channel is closes


def test_a_clone_is_not_supported_whatever_its_number():
    """Its number is its own."""
    assert not Profile((4, 3, 6), "LavinMQ").supported


def test_it_has_words_for_people():
    """For `doctor` and the log."""
    assert Profile((4, 3, 6), "RabbitMQ").text == "RabbitMQ 4.3.6"


def test_only_the_embedded_broker_needs_no_pause_behind_the_last_acks():
    """What is not known to be safe is waited for."""
    assert Profile((4, 3, 6), "RabbitMQ").undoes_last_acks
    assert Profile((4, 3, 6), "unknown").undoes_last_acks
    assert not Profile((4, 3, 6), EMBEDDED).undoes_last_acks
