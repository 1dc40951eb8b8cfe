"""What goes along on a copy of a message, and why it was put aside."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.jobs.message.copies import copied, replayed, retried, snoozed, with_first_try
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DEADLINE,
    HEADER_ERROR,
    HEADER_FIRST_TRY,
)
from amqpjobs.jobs.message.headers import failure_of
from amqpjobs.jobs.message.properties import BROKER_HEADERS, Properties
from amqpjobs.jobs.message.trace_context import RemoteSpan

FAILURE = Failure(
    "failed", "boom", "app.Boom", ("a.py:1 f", "b.py:2 g"), "resize", "photos", "host:1", 1.7e9
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def test_a_copy_keeps_what_the_job_is():
    """Type, id, correlation, headers of its own and of strangers: the job can be run from it."""
    original = Properties(
        content_type="application/json", content_encoding="utf-8", type="resize", message_id="7",
        correlation_id="c", reply_to="r", priority=3, timestamp=5, app_id="web",
        headers={"traceparent": "00", HEADER_ATTEMPT: 2, HEADER_DEADLINE: 9, "x-own": [1]},
    )  # fmt: skip
    copy = copied(original)
    assert copy == Properties(
        content_type="application/json", content_encoding="utf-8", type="resize", message_id="7",
        correlation_id="c", reply_to="r", priority=3, timestamp=5, app_id="web", delivery_mode=2,
        headers={**original.headers, HEADER_COPY: copy.headers[HEADER_COPY]},
    )  # fmt: skip


def test_every_copy_has_a_token_of_its_own():
    """By it a redelivery is told from what was published anew under the same id."""
    first = retried(Properties(message_id="k"), FAILURE, 2, 1.0)
    made = [
        first, copied(first), copied(first, FAILURE), snoozed(first, 1.0), replayed(first),
        retried(first, FAILURE, 3, 1.0), replayed(copied(first, FAILURE)),
    ]  # fmt: skip
    assert len({copy.headers[HEADER_COPY] for copy in made}) == len(made)


@pytest.mark.parametrize("name", sorted(BROKER_HEADERS))
def test_a_copy_leaves_the_brokers_headers_behind(name):
    """They would be taken for the copy's own history, or copy it to other queues (CC, BCC)."""
    copy = copied(Properties(headers={name: ["q"], "mine": 1}))
    assert set(copy.headers) == {"mine", HEADER_COPY}


def test_the_headers_left_behind_are_those_that_the_design_names():
    """`x-death` and its kin, counters, and the two that copy."""
    assert {"x-death", "x-delivery-count", "x-acquired-count", "CC", "BCC"} <= BROKER_HEADERS


def test_a_copy_does_not_expire_is_persistent_and_names_no_user():
    """A wrong `user_id` closes the channel; an expiration would delete a dead letter."""
    copy = copied(Properties(expiration="1000", user_id="stranger", delivery_mode=1))
    assert (copy.expiration, copy.user_id, copy.delivery_mode) == (None, None, 2)


def test_a_copy_into_the_dead_letters_says_why():
    """The header `amqpjobs-error` is what people see in any client."""
    table = copied(Properties(), FAILURE).headers[HEADER_ERROR]
    assert table == {
        "reason": "failed", "message": "boom", "exception": "app.Boom", "job": "resize",
        "frames": ["a.py:1 f", "b.py:2 g"], "queue": "photos", "worker": "host:1",
        "time": 1_700_000_000_000,
    }  # fmt: skip


def test_a_failure_whose_text_utf8_cannot_hold_can_be_sent():
    """`os.fsdecode` makes such text of names of files; it has to fit into a header."""
    failure = Failure("failed", "no file \udcff", frames=("/tmp/\udcff.py:1 f",))
    copy = copied(Properties(), failure)
    assert failure_of(copy.headers).message == "no file \\udcff"
    assert encode_properties(copy)


def test_a_copy_that_goes_back_says_nothing_any_more():
    """The failure of an earlier life is over."""
    dead = copied(Properties(), FAILURE)
    assert HEADER_ERROR not in copied(dead).headers


def test_the_original_is_not_changed():
    """Its headers are needed as they were when the copy is not confirmed."""
    headers = {"x-death": 1, "mine": 2}
    copied(Properties(headers=headers), FAILURE)
    assert headers == {"x-death": 1, "mine": 2}


@given(
    st.builds(
        Failure,
        reason=TEXT.filter(bool),
        message=TEXT,
        exception=st.none() | TEXT,
        frames=st.lists(TEXT, max_size=3).map(tuple),
        job=st.none() | TEXT,
        queue=st.none() | TEXT,
        worker=st.none() | TEXT,
        time=st.none() | st.integers(0, 2**40).map(lambda ms: ms / 1000),
    )
)
def test_a_failure_reads_back_as_it_was_written(failure):
    """What `dead show` prints is what the worker knew."""
    assert failure_of(copied(Properties(), failure).headers) == failure


def test_a_message_that_the_broker_put_aside_says_so():
    """A delivery limit or an expiration: `x-death` is all there is."""
    death = {"reason": "delivery_limit", "queue": "photos", "count": 1}
    found = failure_of({"x-death": [death]})
    assert found == Failure("broker-delivery_limit", "put here by RabbitMQ itself", queue="photos")


@pytest.mark.parametrize(
    "headers",
    [
        {}, {HEADER_ERROR: "boom"}, {HEADER_ERROR: None}, {"x-death": []}, {"x-death": "x"},
        {"x-death": [1]}, {"x-death": {"reason": "x"}},
    ],
)  # fmt: skip
def test_headers_that_say_nothing_of_the_kind_are_no_failure(headers):
    """Strangers write headers: wrong types are not trusted, and raise nothing."""
    assert failure_of(headers) is None


def test_a_failure_of_wrong_types_is_read_as_far_as_it_goes():
    """A stranger's table is shown, not believed."""
    table = {"reason": 7, "message": b"x", "frames": "abc", "time": "now", "queue": ["q"]}
    assert failure_of({HEADER_ERROR: table}) == Failure("unknown", "")
    assert failure_of({HEADER_ERROR: {"frames": ["a", 3, None]}}) == Failure(
        "unknown", "", frames=("a",)
    )
    assert failure_of({"x-death": [{"reason": 3, "queue": 4}]}) == Failure(
        "broker-unknown", "put here by RabbitMQ itself"
    )


def test_a_copy_names_the_span_of_the_first_run():
    """That of a later one does not take its place; and a replay keeps it."""
    first = with_first_try(Properties(), RemoteSpan(1, 2, 1))
    name = f"00-{1:032x}-{2:016x}-01"
    assert first.headers == {HEADER_FIRST_TRY: name}
    assert with_first_try(first, RemoteSpan(3, 4, 1)) is first
    assert replayed(first).headers[HEADER_FIRST_TRY] == name


@pytest.mark.parametrize("span", [None, RemoteSpan(1, 2, 0), RemoteSpan(1, 2, 2)])
def test_a_copy_names_no_span_that_nobody_recorded(span):
    """A job that is not traced costs no header."""
    original = Properties(headers={"x-own": 1})
    assert with_first_try(original, span) is original


@pytest.mark.parametrize("nonsense", [5, "", "00-1-2-01", ["00"], b"00"])
def test_a_strangers_nonsense_is_no_first_run(nonsense):
    """It is written over."""
    copy = with_first_try(Properties(headers={HEADER_FIRST_TRY: nonsense}), RemoteSpan(1, 2, 1))
    assert copy.headers[HEADER_FIRST_TRY] == f"00-{1:032x}-{2:016x}-01"
