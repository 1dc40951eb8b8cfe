"""The bodies of task messages: what Celery has sent, and what anybody might."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqpjobs.contrib.celery.task_body import Signature, TaskBody, read_body
from amqpjobs.contrib.celery.values import plain, read_json
from amqpjobs.errors import DecodeError
from tests.support.celery_messages import body

LINK = {"task": "shop.tasks.add", "args": [5], "kwargs": {}, "options": {}, "immutable": False}


def embedding(**embed: Any) -> bytes:
    return json.dumps([[], {}, embed]).encode()


def test_arguments() -> None:
    """By position, and by name."""
    assert read_body(body("delay")) == TaskBody([2, 3], {})
    assert read_body(body("kwargs")) == TaskBody([2], {"y": 5})


def test_callbacks() -> None:
    """`link=` and `link_error=`."""
    task = read_body(body("link"))
    assert task.callbacks == (Signature("shop.tasks.add", [5]),)
    assert task.errbacks == (Signature("shop.tasks.fail", immutable=True),)


def test_a_chain_has_its_next_task_last() -> None:
    """Each has the id that the producer has chosen, and its reply queue."""
    task = read_body(body("chain"))
    assert [(each.args, each.immutable) for each in task.chain] == [([5, 6], True), ([4], False)]
    assert task.chain[1].id == "69e21edf-af83-4bad-aff6-09478d5a5973"


def test_values_that_json_does_not_have() -> None:
    """They are what amqpjobs sends in JSON: texts, and base64url for bytes."""
    dates, special, binary = (read_body(body(n)).args for n in ("dates", "special", "bytes"))
    assert plain(dates) == ["2026-01-02T03:04:05+00:00", "2026-01-02"]
    assert plain(special) == ["1.5", "00000000-0000-0000-0000-000000000005"]
    assert plain(binary) == ["_wA=", {"1": 2}]
    assert plain({"__type__": "bytes", "__value__": "é"}) == "w6k="


@pytest.mark.parametrize(
    "marked",
    [
        {"__type__": "pickle", "__value__": "x"}, {"__type__": ["x"], "__value__": "x"},
        {"__type__": "uuid", "__value__": {"hex": "no"}}, {"__type__": "uuid", "__value__": "x"},
        {"__type__": "base64", "__value__": "é"}, {"__type__": "datetime", "__value__": 5},
    ],
)  # fmt: skip
def test_a_mark_that_makes_no_sense_is_refused(marked: Any) -> None:
    """So is the type of another program's own."""
    with pytest.raises(DecodeError, match="type"):
        plain([marked])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"null", b"3", b"{}", b"[]", b"[[]]", b"[[],[],{}]", b"[{},{},{}]",
        b"[[],{},[]]", b"[[],{},{},{}]", b"\xff", b"[" * 10_000, body("pickle"), body("yaml"),
        body("v1"),
    ],
)  # fmt: skip
def test_what_is_no_task_is_refused(data: bytes) -> None:
    """Pickle, yaml and protocol 1 among it."""
    with pytest.raises(DecodeError):
        read_body(data)


@pytest.mark.parametrize(
    ("embed", "words"),
    [
        ({"chord": {"task": "x"}}, "chord"),
        ({"callbacks": [{**LINK, "subtask_type": "group"}]}, "group"),
        ({"chain": [{**LINK, "subtask_type": "chord"}]}, "chord"),
        ({"callbacks": [{**LINK, "options": {"chord": {"task": "x"}}}]}, "chord"),
        ({"callbacks": [{**LINK, "options": {"exchange": "x"}}]}, "exchange"),
        ({"callbacks": [{**LINK, "options": {"link": [{"task": 5}]}}]}, "link"),
        ({"callbacks": [{**LINK, "options": {"zombie": 1}}]}, "zombie"),
        ({"callbacks": "x"}, "callbacks"),
        ({"chain": [7]}, "chain"),
        ({"errbacks": [{**LINK, "args": {}}]}, "errbacks"),
    ],
)
def test_what_cannot_follow_is_refused_before_the_task_runs(embed: Any, words: str) -> None:
    """The error says what it is."""
    with pytest.raises(DecodeError, match=words):
        read_body(embedding(**embed))


def test_one_signature_instead_of_a_list() -> None:
    """As other clients of Celery's protocol write it."""
    assert read_body(embedding(callbacks=LINK)).callbacks == (Signature("shop.tasks.add", [5]),)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["task", "args", "kwargs", "options", "link", "callbacks", "chain"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES | st.tuples(st.just([]), st.just({}), JSON_VALUES))
def test_whatever_body_there_is(value: Any) -> None:
    """It is read, or refused by a `DecodeError`: nothing else is raised."""
    try:
        task = read_body(json.dumps(value).encode())
        plain(task.args)
    except DecodeError:
        pass


@settings(deadline=None)
@given(st.binary())
def test_whatever_bytes_there_are(data: bytes) -> None:
    """The same of bytes that are no JSON."""
    with contextlib.suppress(DecodeError):
        read_json(data)
