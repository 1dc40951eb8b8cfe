"""Our headers: what is written is read again, and nonsense of other programs is found."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import amqpjobs
from amqpjobs.broker.amqp.frames import PREFIX
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message import header_names as ours
from amqpjobs.jobs.message.events import LONGEST_TEXT, Progress
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_info import JobHeaders, milliseconds
from amqpjobs.jobs.message.header_names import (
    ALL,
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DEADLINE,
    HEADER_DUE,
    HEADER_EPOCH,
    HEADER_ERROR,
    HEADER_HISTORY,
    LONGEST_TOKEN,
    MAX_ATTEMPT,
    MAX_EPOCH,
    MAX_HISTORY,
)
from amqpjobs.jobs.message.headers import (
    LAST_MOMENT,
    dropped_header,
    dropped_of,
    failure_of,
    fingerprint,
    first_try_header,
    first_try_of,
    for_copy,
    for_retry,
    history_of,
    progress_header,
    progress_of,
    read,
    read_leniently,
    token_header,
    token_of,
    write,
)
from amqpjobs.jobs.message.trace_context import RemoteSpan

PACKAGE = Path(amqpjobs.__file__).parent

moments = st.none() | st.integers(0, 2**48).map(lambda ms: ms / 1000)
said = st.builds(
    JobHeaders,
    attempt=st.integers(1, MAX_ATTEMPT),
    deadline=moments,
    due=moments,
    epoch=st.integers(0, MAX_EPOCH),
)
text = st.text(st.characters(exclude_categories=["Cs"]))
failures = st.builds(
    Failure,
    reason=text.filter(bool),
    message=text,
    exception=st.none() | text,
    frames=st.lists(text).map(tuple),
    job=st.none() | text,
    queue=st.none() | text,
    worker=st.none() | text,
    time=moments,
    attempt=st.none() | st.integers(1, MAX_ATTEMPT),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10)
    | st.sampled_from([0, 1, 2, 2**31, 2**53, 2**53 + 2]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
tables = st.dictionaries(st.sampled_from(list(ALL)), values)


@given(said)
def test_what_is_written_is_read(value):
    """Milliseconds are all that a header holds."""
    assert read(write(value)) == read_leniently(write(value)) == value


def test_what_is_as_always_needs_no_header():
    """A message without headers is the cheapest."""
    assert write(JobHeaders()) == {}
    assert read({}) == read_leniently({}) == JobHeaders()


@given(tables)
def test_strict_and_lenient_agree_where_strict_passes(headers):
    """Else the strict one names the header, and the lenient one is as if it were not there."""
    lenient = read_leniently(headers)
    try:
        strict = read(headers)
    except DecodeError as error:
        named = re.findall("amqpjobs-[a-z-]+", str(error))
        assert len(named) == 1
        assert named[0] in headers
    else:
        assert strict == lenient
    assert read(write(lenient)) == lenient or (lenient.deadline or 0) > LAST_MOMENT


@pytest.mark.parametrize("name", [HEADER_ATTEMPT, HEADER_DEADLINE, HEADER_DUE])
@pytest.mark.parametrize("value", [True, False, -1, 1.5, "1", b"1", [1], {}])
def test_what_is_no_whole_number_is_refused_by_name(name, value):
    """True is no number."""
    with pytest.raises(DecodeError, match=name):
        read({name: value})
    assert read_leniently({name: value}) == JobHeaders()


@pytest.mark.parametrize("value", [True, -1, MAX_EPOCH + 1, 1.5, "1", None, {}])
def test_an_epoch_that_makes_no_sense_counts_as_never(value):
    """It decides nothing, so that no job is lost for it."""
    assert read({HEADER_EPOCH: value}).epoch == read_leniently({HEADER_EPOCH: value}).epoch == 0


def test_a_failure_holds_no_truth_value_for_a_number():
    """In its time and its attempt."""
    failure = failure_of({HEADER_ERROR: {"reason": "failed", "time": True, "attempt": True}})
    assert failure == Failure("failed", "")


@given(st.floats(0, 2**35))
@example(1.001)
@example(8.2)
def test_a_time_is_rounded_up_to_the_next_millisecond(time):
    """Never early, and no millisecond too late."""
    found = milliseconds(time)
    assert found / 1000 >= time > (found - 1) / 1000 or found == time == 0


@given(failures)
def test_a_failure_that_is_written_is_read(failure):
    """As why a message was put aside, and as one of its history."""
    assert failure_of(for_copy({}, failure)) == failure
    headers = for_retry({}, failure, 2)
    assert read(headers).attempt == 2
    assert history_of(headers)[0].reason == failure.reason


@given(st.floats(0, 1), st.text(max_size=LONGEST_TEXT))
def test_progress_that_is_written_is_read(fraction, message):
    """What no database can hold is replaced when it is read."""
    found = progress_of(progress_header(Progress(fraction, message)))
    assert found.fraction == fraction
    assert len(found.message) == len(message)


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
def test_a_span_that_is_written_is_read(trace, span, flags):
    """The one of the first run."""
    remote = RemoteSpan(trace, span, flags)
    assert first_try_of(first_try_header(remote)) == remote


@given(tables)
def test_nothing_that_other_programs_write_raises(headers):
    """Where a header is only shown, counted or copied."""
    failure = Failure("failed", "m")
    failure_of(headers), progress_of(headers), first_try_of(headers), fingerprint(headers)
    assert all(isinstance(name, str) for name in dropped_of(headers))
    assert len(history_of(headers, failure)) <= MAX_HISTORY
    copy = for_retry(for_copy(headers, keep_due=True), failure, 2)
    assert token_of(copy)
    assert copy.get(HEADER_DUE) is headers.get(HEADER_DUE)
    assert HEADER_ERROR not in copy


def test_every_token_is_another():
    """One that is not usable is not taken for a missing one."""
    assert token_of(token_header()) != token_of(token_header())
    assert token_of({}) is None
    for nonsense in ("", 1, b"x", "x" * (LONGEST_TOKEN + 1)):
        assert token_of({HEADER_COPY: nonsense}) == ""


def test_dropped_names_are_read():
    """For the next copy, which has to name them as well."""
    assert dropped_of(dropped_header(["x-own"])) == ["x-own"]


@pytest.mark.parametrize("name", [HEADER_ATTEMPT, HEADER_COPY, HEADER_DUE, HEADER_EPOCH])
def test_copies_of_a_message_differ(name):
    """Whatever other programs write."""
    assert len({fingerprint({name: value}) for value in (None, 1, 2, "a", [1], {"a": 1})}) == 6


def test_every_header_is_described():
    """Once, and by what its name begins with it is found in an encoded table."""
    assert set(ALL) == {getattr(ours, name) for name in dir(ours) if name.startswith("HEADER_")}
    assert all(name.encode().startswith(PREFIX) for name in ALL)
    assert all((info.minimum is not None) == (info.type == "integer") for info in ALL.values())
    assert f"at most {MAX_HISTORY}" in ALL[HEADER_HISTORY].meaning


def test_the_guide_lists_every_header():
    """In the words of `ALL`."""
    page = (PACKAGE / "guide/wire.md").read_text()
    rows = re.findall(r"^\| `(amqpjobs-[a-z-]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert rows == [(name, info.type, info.meaning) for name, info in ALL.items()]


def test_only_one_place_names_the_headers():
    """The others call what is there."""
    quoted = "|".join(map(re.escape, ALL))
    names = re.compile(rf"""\bHEADER_[A-Z]|["'](?:{quoted})["']""")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for line in path.read_text().splitlines()
        if names.search(line)
    }
    assert found == {"jobs/message/header_names.py", "jobs/message/headers.py"}
