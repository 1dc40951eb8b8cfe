"""Job ids are UUIDs of version 7, and messages are values that nobody can change."""

import copy
import dataclasses
import pickle
import time
import uuid

import pytest

from amqpjobs.jobs.message.ids import is_new_job_id, new_job_id
from amqpjobs.jobs.message.message import Message, has_own_id, takes_own_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.message.trace_context import trace_parent

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_job_id_is_a_uuid_of_version_7_and_the_rfc_variant():
    """RFC 9562: the version is in bits 48 to 51, the variant in bits 64 and 65."""
    for _ in range(200):
        made = uuid.UUID(new_job_id())
        assert made.version == 7
        assert made.variant == uuid.RFC_4122
        assert str(made) == str(made).lower()


def test_a_job_id_holds_the_time_at_which_it_was_made():
    """Its first 48 bits are milliseconds since the epoch, which the log's waiting time reads."""
    before = time.time_ns() // 1_000_000
    stamp = uuid.UUID(new_job_id()).int >> 80
    assert before <= stamp <= time.time_ns() // 1_000_000


def test_job_ids_sort_by_the_time_at_which_they_were_made(monkeypatch):
    """As text, so that a list of ids is a list in time; within a millisecond there is no order."""
    now = 1_700_000_000_000_000_000
    made = []
    for milliseconds in (0, 1, 2, 15, 16, 255, 4096, 10**7):
        monkeypatch.setattr(time, "time_ns", lambda ms=milliseconds: now + ms * 1_000_000)
        made.append(new_job_id())
    assert made == sorted(made)


def test_job_ids_made_at_the_same_moment_differ(monkeypatch):
    """The random part alone keeps them apart."""
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    assert len({new_job_id() for _ in range(10_000)}) == 10_000


def test_the_bits_of_a_job_id_that_are_not_fixed_are_random():
    """Every bit of the random part is seen both set and not set."""
    ids = [uuid.UUID(new_job_id()).int for _ in range(500)]
    fixed = 0xF000_C000_0000_0000_0000  # version and variant, within the last 80 bits
    ones = zeros = 0
    for made in ids:
        ones |= made & (2**80 - 1)
        zeros |= ~made & (2**80 - 1)
    assert ones | fixed == 2**80 - 1
    assert zeros | fixed == 2**80 - 1


def test_messages_and_properties_cannot_be_changed():
    """A message is a snapshot: middleware that wants another one makes another one."""
    message = Message("id", "job", "queue", b"{}")
    with pytest.raises(dataclasses.FrozenInstanceError):
        message.body = b""
    properties = Properties()
    with pytest.raises(AttributeError):
        properties.type = "x"
    with pytest.raises(TypeError):
        properties.headers["amqpjobs-due"] = 1  # the default is one for all


@pytest.mark.parametrize(
    "another",
    [
        copy.copy,
        lambda m: dataclasses.replace(m, body=b"1"),
        lambda m: Message(m.id, "job", "q", b""),
    ],
)
def test_a_message_has_an_id_of_its_own_once(another):
    """The first publish of what a job has made; whatever else has its id may be another job."""
    made = has_own_id(Message(new_job_id(), "job", "queue", b"{}"))
    assert is_new_job_id(made.id)
    assert not takes_own_id(another(made))
    assert [takes_own_id(made), takes_own_id(made)] == [True, False]
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_traceparent_is_taken_only_if_it_is_one():
    """Strangers write headers: what is not W3C's format is no trace."""
    assert trace_parent({"traceparent": TRACE}) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        None, 7, b"00", "", TRACE.upper(), TRACE + "\n", TRACE + "-x", TRACE[:-1],
        f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        [TRACE], {"x": TRACE},
    ],
)  # fmt: skip
def test_what_is_no_traceparent_is_left_out(value):
    """Wrong types, wrong lengths, all zeros, upper case."""
    assert trace_parent({"traceparent": value}) is None
    assert trace_parent({}) is None
