"""Copies that no frame can hold: what matters most is kept, and the rest is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.broker.amqp.frames import encode_publish
from amqpjobs.broker.rabbitmq.fitting import NAMES, fitting, send_fitting
from amqpjobs.errors import NotConfirmed, PublishError
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DROPPED,
    HEADER_ERROR,
    HEADER_HISTORY,
    HEADER_PROGRESS,
)
from amqpjobs.jobs.message.headers import failure_of
from amqpjobs.jobs.message.properties import Properties

FAILURE = Failure("failed", "m" * 1000, "app.Boom", tuple("f" * 200 for _ in range(10)))
LEAST = 4096
"""Bytes: RabbitMQ takes no smaller ``frame_max``."""


def fits(properties, frame_max):
    return bool(encode_publish(1, "", "queue", properties, b"", frame_max))


def test_a_large_header_of_another_program_is_dropped_and_named():
    """The small ones stay: a trace, a tenant."""
    headers = {"large": "x" * 131_000, "tenant": 7, HEADER_ATTEMPT: 3}
    copy = fitting(copied(Properties(headers=headers), FAILURE), 131_072)
    assert fits(copy, 131_072)
    assert copy.headers[HEADER_DROPPED] == ["large"]
    assert set(copy.headers) == {
        "tenant", HEADER_ATTEMPT, HEADER_COPY, HEADER_DROPPED, HEADER_ERROR
    }  # fmt: skip
    assert failure_of(copy.headers) == FAILURE


@pytest.mark.parametrize("name", ["amqpjobs-x", HEADER_PROGRESS, "amqpjobs-epoch", HEADER_HISTORY])
def test_a_large_header_with_a_name_like_ours_is_dropped_too(name):
    """Anybody can write one, and it would stay in every copy."""
    copy = fitting(copied(Properties(headers={name: "x" * 131_000}), FAILURE), 131_072)
    assert fits(copy, 131_072)
    assert copy.headers[HEADER_DROPPED] == [name]


def test_in_the_smallest_frame_there_is_room_for_what_matters():
    """The error in fewer words, the attempt, the token."""
    others = {f"{n:02}": "x" * 200 for n in range(50)}
    full = dict.fromkeys(("content_type", "correlation_id", "reply_to", "type"), "y" * 255)
    original = Properties(headers={**others, HEADER_ATTEMPT: 3}, message_id="z" * 255, **full)
    copy = fitting(copied(original, FAILURE), LEAST)
    assert fits(copy, LEAST)
    assert copy.headers[HEADER_ATTEMPT] == 3
    assert failure_of(copy.headers).message == "m" * 300
    assert len(copy.headers[HEADER_DROPPED]) == NAMES


def test_what_was_dropped_before_is_still_named():
    """A dead letter tells what all its copies have lost."""
    first = fitting(Properties(headers={"a": "x" * 5000}), LEAST)
    again = fitting(first._replace(headers={**first.headers, "b": "x" * 5000}), LEAST)
    assert again.headers[HEADER_DROPPED] == ["a", "b"]


def test_what_amqp_cannot_hold_is_dropped():
    """Whatever the type, and whatever a stranger has put there."""
    copy = fitting(Properties(headers={"odd": object(), "n": 2**70, HEADER_DROPPED: 7}), LEAST)
    assert copy.headers == {HEADER_DROPPED: ["odd", "n"]}


@given(
    st.dictionaries(st.text(max_size=60), st.text(max_size=400) | st.integers(), max_size=30),
    st.sampled_from([LEAST, 8192, 131_072, 0]),
)
def test_it_always_fits(headers, frame_max):
    """Otherwise it could never be published."""
    assert fits(fitting(copied(Properties(headers=headers), FAILURE), frame_max), frame_max)


async def test_only_what_cannot_be_carried_is_made_smaller():
    """A broker that is away says nothing about the headers."""
    sent = []

    async def send(properties):
        sent.append(properties)
        raise NotConfirmed("away", sent=False) if len(sent) == 1 else PublishError("too large")

    with pytest.raises(NotConfirmed):
        await send_fitting(send, Properties(headers={"a": 1}), LEAST)
    assert len(sent) == 1
    with pytest.raises(PublishError):
        await send_fitting(send, Properties(headers={"a": "x" * 5000}), LEAST)
    assert [set(p.headers) for p in sent[1:]] == [{"a"}, {HEADER_DROPPED}]
