"""Callbacks travel in a header that anybody may have written."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import App, Queue, Retry
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.callbacks import callback_in, header_of
from amqpjobs.jobs.message.header_names import HEADER_CALLBACKS
from amqpjobs.jobs.message.message import Callbacks

app = App("callbacks")


@app.job(queue=Queue("jobs", priorities={"high": 2, "low": 1}))
async def note(words: str) -> None: ...


def test_a_callback_comes_back_as_it_was():
    """With its options, and callbacks of its own."""
    last = note.message("last")
    first = note.with_options(
        priority="high", delay=60, expires=3600, on_success=last, on_failure=note.message("x"),
        headers={"tenant": "acme", "n": 7, "gone": None}, tags=("a", "b"), run_timeout=2.5,
        retry=Retry(attempts=3, first=0.5, jitter=False),
    ).message("first")  # fmt: skip
    headers = header_of(Callbacks(first))
    found = callback_in(headers, "success")
    # Its priority is its queue by now.
    assert found == replace(first, options=replace(first.options, priority=None))
    assert found is not None
    assert found.options.headers.removed == {"gone"}
    assert (found.queue, found.tracked) == ("jobs.high", "jobs")
    assert callback_in(headers, "failure") is None
    assert callback_in({}, "success") is None


def test_each_job_has_a_callback_of_its_own():
    """One object with options may be called several times: the first callback has the id of the
    message, the others new ones."""
    message = note.message("x")
    callbacks = Callbacks(failure=message)
    ids = [callback_in(header_of(callbacks), "failure").id for _ in range(3)]
    assert ids[0] == message.id
    assert len(set(ids)) == 3


def test_options_that_are_not_messages_are_refused():
    """With what to write."""
    for wrong in (note, "note", note.later):
        with pytest.raises(ConfigurationError, match=r"write on_failure=job.message"):
            note.with_options(on_failure=wrong)


def test_callbacks_are_bounded():
    """They go along with every copy: together they have 8 KiB."""
    with pytest.raises(ConfigurationError, match="store large arguments elsewhere"):
        note.with_options(on_success=note.message("x" * 9000))
    half = note.message("x" * 5000)
    note.with_options(on_success=half)
    with pytest.raises(ConfigurationError, match="8192"):
        note.with_options(on_success=half, on_failure=half)
    with pytest.raises(ConfigurationError, match="8192"):
        note.with_options(on_success=half).with_options(on_failure=half)


GOOD = {"id": "7", "job": "note", "queue": "jobs", "body": '"x"'}


@pytest.mark.parametrize(
    "wrong",
    [
        7, "text", [], {}, GOOD | {"queue": "amqpjobs.recorder"}, GOOD | {"queue": "amq.topic"},
        GOOD | {"queue": ""}, GOOD | {"queue": "q" * 256}, GOOD | {"body": b"x"},
        GOOD | {"body": "x" * 9000}, GOOD | {"priority": 256}, GOOD | {"priority": True},
        GOOD | {"delay": -1}, GOOD | {"at": 2**60}, GOOD | {"expires": "60"},
        GOOD | {"run_timeout": "2"},
        GOOD | {"retry": 7}, GOOD | {"headers": 7}, GOOD | {"headers": {"x-no": 1}},
        GOOD | {"id": None}, GOOD | {"success": 7}, GOOD | {"failure": {"id": "8"}},
    ],
)  # fmt: skip
def test_nonsense_is_no_callback(wrong):
    """Whatever a program has put there."""
    with pytest.raises(ValueError, match="a callback is|its|is no queue"):
        callback_in({HEADER_CALLBACKS: {"success": wrong}}, "success")


def test_a_header_that_is_no_table_is_nonsense():
    """And callbacks of callbacks come to an end."""
    with pytest.raises(ValueError, match="table"):
        callback_in({HEADER_CALLBACKS: 7}, "success")
    deep = GOOD
    for _ in range(30):
        deep = GOOD | {"success": deep}
    with pytest.raises(ValueError, match="table"):
        callback_in({HEADER_CALLBACKS: {"success": deep}}, "success")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from([*GOOD, "success", "failure", "delay", "priority", "tracked"]), inner
    ),
)


@given(values)
def test_whatever_is_there_it_is_a_message_or_a_value_error(value):
    """A worker never stops over it."""
    with suppress(ValueError):
        callback_in({HEADER_CALLBACKS: {"success": value}}, "success")
