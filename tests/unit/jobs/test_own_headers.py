"""Headers of users: which names and values there may be, and what a job sees of those that came."""

import copy
import pickle
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.amqp.fields import encode_table
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.header_names import ALL
from amqpjobs.jobs.message.own_headers import (
    LARGEST,
    LONGEST_NAME,
    NO_OWN_HEADERS,
    OwnHeaders,
    header_fields,
    headers_from,
    own_headers,
    propagated,
    size_of,
)
from amqpjobs.jobs.message.properties import BROKER_HEADERS
from amqpjobs.settings import load_settings

GOOD = {"tenant": "acme", "n": 2**63 - 1, "low": -(2**63), "rate": 0.5, "big": True, "é": ""}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("amqpjobs-attempt", "amqpjobs"), ("AMQPJOBS-mine", "amqpjobs"), ("x-tenant", "RabbitMQ"),
        ("X-Death", "RabbitMQ"), ("CC", "RabbitMQ"), ("bcc", "RabbitMQ"), ("Traceparent", "trace"),
        ("tracestate", "trace"), ("BAGGAGE", "trace"), ("", "1 to 128"), ("é" * 65, "1 to 128"),
        ("\ud800", "UTF-8"), (7, "str"), (None, "str"),
    ],
)  # fmt: skip
def test_names_that_are_taken_are_refused(name: Any, words: str) -> None:
    """With whose they are."""
    with pytest.raises(ConfigurationError, match=words):
        OwnHeaders({name: "value"})


@pytest.mark.parametrize(
    "value",
    [b"bytes", [1], {"a": 1}, object(), 2**63, -(2**63) - 1, float("nan"), float("inf"), "\ud800",
     "x" * (LARGEST + 1)],
)  # fmt: skip
def test_values_that_no_header_holds_are_refused(value: Any) -> None:
    """With the name of the header."""
    with pytest.raises(ConfigurationError, match="tenant"):
        OwnHeaders({"tenant": value})


@pytest.mark.parametrize("given", [["tenant"], "tenant=acme", 7])
def test_what_is_no_mapping_is_refused(given: Any) -> None:
    """With what to give."""
    with pytest.raises(ConfigurationError, match="mapping"):
        OwnHeaders(given)
    with pytest.raises(ConfigurationError, match="mapping"):
        NO_OWN_HEADERS.merged(given)


def test_8_kb_is_the_limit_of_all_together() -> None:
    """As AMQP encodes them, to the byte."""
    for name, value in GOOD.items():
        assert size_of(name, value) == len(encode_table({name: value})) - 4
    most = LARGEST - size_of("a", "")
    assert len(encode_table({"a": "x" * most})) - 4 == LARGEST
    OwnHeaders({"a": "x" * most})
    with pytest.raises(ConfigurationError, match="8193 bytes"):
        OwnHeaders({"a": "x" * (most + 1)})
    assert OwnHeaders({"n" * LONGEST_NAME: 1})


def test_they_are_a_value() -> None:
    """Nothing changes them; they can be compared, hashed, copied and sent to another process."""
    given = dict(GOOD)
    own = OwnHeaders(given)
    given["tenant"] = "other"
    assert own == GOOD
    assert {own: 1}[OwnHeaders(GOOD)] == 1
    for again in (copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert again == own
    with pytest.raises(TypeError):
        own["tenant"] = "other"  # type: ignore[index]


def test_more_of_them_are_merged_and_none_removes() -> None:
    """What comes later replaces."""
    own = OwnHeaders({"tenant": "acme", "n": 1}).merged({"n": None, "b": True})
    assert own == {"tenant": "acme", "b": True}
    assert own.removed == {"n"}
    assert own.merged({"n": 2}) == {"tenant": "acme", "b": True, "n": 2}


def test_what_a_middleware_gives_is_checked_as_well() -> None:
    """It may replace the options with any mapping."""
    assert header_fields({"tenant": "acme"}) == {"tenant": "acme"}
    with pytest.raises(ConfigurationError, match="x-tenant"):
        header_fields({"x-tenant": "acme"})


def test_a_job_sees_neither_ours_nor_the_brokers_nor_the_trace() -> None:
    """All else, of whatever type, and nothing changes it."""
    others = {"tenant": "acme", "x-tenant": 1, "blob": b"\xff", "table": {"a": [1]}, "none": None}
    internal = dict.fromkeys((*ALL, *BROKER_HEADERS, "traceparent", "tracestate", "baggage"), 1)
    seen = own_headers({**internal, **others, "amqpjobs-of-a-later-release": 1})
    assert seen == others
    with pytest.raises(TypeError):
        seen["tenant"] = "other"  # type: ignore[index]


def test_a_job_passes_on_what_the_call_does_not_say_itself() -> None:
    """And nothing that no call could have said."""
    of_job = {"tenant": "acme", "region": "eu", "blob": b"x", "n": 2**70, "long": "x" * 9000}
    names = ("tenant", "region", "missing", "blob", "n", "long")
    assert propagated(of_job, names, NO_OWN_HEADERS) == {"tenant": "acme", "region": "eu"}
    own = OwnHeaders({"tenant": None, "region": "us", "a": 1})
    assert propagated(of_job, names, own) is None
    assert propagated({}, names, own) is None
    with pytest.raises(ConfigurationError, match="bytes"):
        propagated({"a": "x" * 5000, "b": "x" * 5000}, ("a", "b"), NO_OWN_HEADERS)


@pytest.mark.parametrize("names", ["tenant", ("x-tenant",), ("amqpjobs-copy",), (7,)])
def test_an_app_propagates_names_that_a_call_could_set(names: Any) -> None:
    """Others are refused when it is made."""
    with pytest.raises(ConfigurationError, match="propagate"):
        App("shop", propagate=names)


def test_headers_are_read_as_people_write_them() -> None:
    """The first equals sign separates."""
    assert headers_from(["tenant=acme", "sum=1+1=2", "empty="]) == {
        "tenant": "acme", "sum": "1+1=2", "empty": ""
    }  # fmt: skip
    assert headers_from([]) is None
    for wrong in (["tenant"], ["a=1", "a=2"]):
        with pytest.raises(ConfigurationError):
            headers_from(wrong)


def test_options_with_headers_are_immutable_and_merged() -> None:
    """Those of the job that `with_options` was called on stay as they are."""
    app = App("shop", settings=load_settings(url="amqp://nowhere.invalid"))

    @app.job(queue="work")
    async def job(n: int) -> None: ...

    acme = job.with_options(headers={"tenant": "acme"})
    both = acme.with_options(headers={"region": "eu"}, priority=None)
    assert job.message(1).options.headers == {}
    assert acme.message(1).options.headers == {"tenant": "acme"}
    assert both.message(1).options.headers == {"tenant": "acme", "region": "eu"}
    assert both.with_options(headers={"tenant": None}).message(1).options.headers == {
        "region": "eu"
    }
    with pytest.raises(ConfigurationError, match="amqpjobs"):
        job.with_options(headers={"amqpjobs-due": 1})
