"""What a message carries of the options of its call: checked when given, and again when read."""

import copy
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import App, Queue, Retry
from amqpjobs.broker.amqp.fields import decode_table, encode_table
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.call_options import carried_of
from amqpjobs.jobs.durations import LONGEST_DELAY
from amqpjobs.jobs.message.carried import Carried, check_tags, policy_of
from amqpjobs.jobs.message.header_names import HEADER_RETRY, HEADER_RUN_TIMEOUT, HEADER_TAGS
from amqpjobs.jobs.message.headers import read_carried, write_carried
from amqpjobs.jobs.message.message import NO_OPTIONS, takes_own_id
from amqpjobs.settings import load_settings

policies = st.builds(
    Retry,
    attempts=st.none() | st.integers(1, 1_000_000),
    first=st.floats(0, 100),
    factor=st.floats(1, 1000),
    limit=st.floats(100, LONGEST_DELAY),
    jitter=st.booleans(),
)
tags = st.lists(st.sampled_from(["import", "tenant-7", "é", "x" * 64, "a b"]), unique=True)


@given(
    st.builds(
        Carried,
        retry=st.none() | policies,
        timeout=st.none() | st.integers(1, 2**31).map(lambda ms: ms / 1000),
        tags=tags.map(tuple),
    )
)
def test_what_is_written_is_read(carried: Carried) -> None:
    """As AMQP carries it."""
    headers = decode_table(encode_table(write_carried(carried))[4:])
    assert (read_carried(headers) or Carried()) == carried


def test_nothing_needs_no_header() -> None:
    """And costs none."""
    assert write_carried(Carried()) == {}
    assert read_carried({"tenant": "acme"}) is None
    assert carried_of(NO_OPTIONS) is None


@pytest.mark.parametrize(
    "table",
    [
        7, "attempts", [], {"attempts": 0}, {"attempts": True}, {"attempts": 1.0},
        {"attempts": 1_000_001}, {"first": -1}, {"first": "1"}, {"first": True},
        {"first": float("nan")}, {"factor": 0.5}, {"factor": float("inf")}, {"factor": 1e9},
        {"limit": 0.5}, {"limit": 1e12}, {"jitter": 1}, {"jitter": None}, {"first": None},
    ],
)  # fmt: skip
def test_a_policy_that_makes_no_sense_is_undecodable(table: Any) -> None:
    """It decides how often a job runs."""
    with pytest.raises(DecodeError, match=HEADER_RETRY):
        read_carried({HEADER_RETRY: table})


def test_a_policy_of_another_program_may_say_less() -> None:
    """The rest is as in a `Retry` by default; what it says beyond is ignored."""
    read = read_carried({HEADER_RETRY: {"attempts": 3, "color": "red"}})
    assert read == Carried(Retry(attempts=3))
    assert read_carried({HEADER_RETRY: {"attempts": None}}) == Carried(Retry(attempts=None))


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "7", [1], {}, 2**50])
def test_a_limit_that_makes_no_sense_is_undecodable(value: Any) -> None:
    """It decides when a run ends."""
    with pytest.raises(DecodeError, match=HEADER_RUN_TIMEOUT):
        read_carried({HEADER_RUN_TIMEOUT: value})


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("import", ()), (7, ()), ({"a": 1}, ()), (b"x", ()), ([1, "a", "", "x" * 65, "a"], ("a",)),
        (["a\n", "\x1b[1m", "b"], ("b",)), (list("abcdefghijklmnopqr"), tuple("abcdefghijklmnop")),
    ],
)  # fmt: skip
def test_tags_that_are_none_are_left_out(value: Any, seen: tuple[str, ...]) -> None:
    """They are only shown."""
    read = read_carried({HEADER_TAGS: value})
    assert read is not None
    assert read.tags == seen


@pytest.mark.parametrize(
    "given", ["import", 7, ("",), ("x" * 65,), ("a\n",), (7,), [f"t{n}" for n in range(17)]]
)
def test_tags_that_cannot_be_are_refused(given: Any) -> None:
    """When the call is made."""
    with pytest.raises(ConfigurationError, match="tag"):
        check_tags(given)


def test_the_numbers_are_the_calls_and_the_classes_the_jobs() -> None:
    """What cannot travel holds as it was declared."""
    own = Retry(attempts=9, on=OSError, give_up_on=(PermissionError,))
    policy = policy_of(Retry(attempts=2, first=5), own)
    assert policy == Retry(attempts=2, first=5, on=OSError, give_up_on=(PermissionError,))


app = App("shop", settings=load_settings(url="amqp://nowhere.invalid"))
lanes = Queue("lanes", priorities={"high": 2, "low": 1})


@app.job(queue="work")
async def job(n: int) -> None: ...


@app.job(queue=lanes)
async def urgent(n: int) -> None: ...


def test_a_call_may_go_to_another_queue_of_the_app() -> None:
    """By name or as it is; a priority is one of that queue, in whichever order they are given."""
    elsewhere = job.with_options(queue="lanes")
    assert elsewhere.message(1).queue == "lanes"
    assert elsewhere.with_options(priority="high").message(1).queue == "lanes.high"
    assert job.with_options(queue=lanes, priority="high").message(1).tracked == "lanes"
    assert urgent.with_options(queue="work").message(1).queue == "work"
    with pytest.raises(ConfigurationError, match="no priority 'high'"):
        urgent.with_options(priority="high").with_options(queue="work")
    with pytest.raises(ConfigurationError, match="did you mean 'lanes'"):
        job.with_options(queue="lane")
    with pytest.raises(ConfigurationError, match="defined twice"):
        job.with_options(queue=Queue("lanes", priorities={"high": 5}))
    with pytest.raises(ConfigurationError, match="no job of the app"):
        job.with_options(queue=7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "retry",
    [Retry(on=OSError), Retry(give_up_on=(OSError,)), Retry(limit=1e12), Retry(factor=1e300),
     Retry(attempts=10**30), 3],
)  # fmt: skip
def test_a_policy_that_cannot_travel_is_refused(retry: Any) -> None:
    """When the call is made."""
    with pytest.raises(ConfigurationError, match="retry"):
        job.with_options(retry=retry)


@pytest.mark.parametrize("job_id", ["", " ", "a\n", "\x00", "é" * 128, 7, "\ud800"])
def test_an_id_that_cannot_be_is_refused(job_id: Any) -> None:
    """Nobody could look for it."""
    with pytest.raises(ConfigurationError, match="id"):
        job.with_options(id=job_id)


def test_an_id_of_the_caller_is_no_messages_own() -> None:
    """Another call may have it: a token tells the two from each other."""
    message = job.with_options(id="order-7").message(1)
    assert message.id == "order-7"
    assert not takes_own_id(message)
    assert takes_own_id(job.with_options(tags=["a"]).message(1))


def test_options_are_merged_and_can_be_copied() -> None:
    """What is not given stays."""
    options = (
        job.with_options(run_timeout=timedelta(minutes=1), tags=["a", "a", "b"])
        .with_options(retry=Retry(attempts=2), id="7")
        .message(1)
        .options
    )
    assert (options.run_timeout, options.tags, options.id) == (60.0, ("a", "b"), "7")
    assert options.retry == Retry(attempts=2)
    assert copy.deepcopy(options) == options
    assert hash(options) == hash(copy.copy(options))
    with pytest.raises(ConfigurationError, match="run_timeout"):
        job.with_options(run_timeout=0)


def test_what_a_middleware_gives_is_checked_as_well() -> None:
    """It may replace the options with anything."""
    for wrong in ({"retry": Retry(on=OSError)}, {"run_timeout": -1.0}, {"tags": "import"}):
        with pytest.raises(ConfigurationError):
            carried_of(replace(NO_OPTIONS, **wrong))  # type: ignore[arg-type]
