"""`body=CeleryTask`: what Celery's message means for a job, and what Celery is told of its end."""

import json
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from amqpjobs import App, Context, Queue
from amqpjobs.contrib.celery import CeleryTask
from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.copies import retried
from amqpjobs.jobs.message.envelope import CANCELLED, DONE, EXPIRED, FAILED, Addressed, Ending
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import HEADER_CALLBACKS, HEADER_RUN_TIMEOUT
from amqpjobs.jobs.message.headers import read
from amqpjobs.jobs.message.properties import Properties
from tests.support.celery_messages import body, properties

TASK = CeleryTask()
NOW = 1_800_000_000.0
WHY = Failure("failed", "sold out", exception="ValueError")


def read_as_job(name: str, **changed: Any) -> Properties:
    found = TASK.read(properties(name)._replace(**changed), body(name))
    assert found is not None
    return found


def an_app() -> App:
    return App("shop")


def payload_of(function: Callable[..., Any]) -> Any:
    job = an_app().job(queue="celery", body=CeleryTask)(function)
    return definition_of(job).payload


def test_a_task_is_a_job_of_its_name_and_id() -> None:
    """Its reply queue is kept, and its charset is no compression."""
    job = read_as_job("delay")
    assert job.type == "shop.tasks.add"
    assert job.message_id == "8ff561ca-30e1-4bb6-b02f-70d465ca4b0d"
    assert job.reply_to == "7e61d363-a66c-35f0-aaee-7c0d8e64da97"
    assert job.content_encoding is None
    assert read(job.headers) == (1, None, None, 0)
    assert HEADER_CALLBACKS not in job.headers


def test_times_and_limits_are_those_of_a_job() -> None:
    """`eta` is when it is due, `expires` its deadline, the time limit that of a run."""
    assert read(read_as_job("eta").headers).due == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    expires = datetime(2026, 11, 30, 2, 32, 44, 598737, UTC).timestamp()
    assert read(read_as_job("expires").headers).deadline == pytest.approx(expires, abs=0.001)
    assert read_as_job("timelimit").headers[HEADER_RUN_TIMEOUT] == 10_000


def test_a_task_whose_result_is_ignored_has_no_reply_queue() -> None:
    """Nor has one of a producer without the backend `rpc://`."""
    assert read_as_job("kwargs").reply_to == ""
    assert read_as_job("delay", reply_to=None).reply_to == ""


def test_the_retries_of_both_sides_count() -> None:
    """A message that was retried here and there has headers of both: the higher attempt counts, and
    the later time. A copy keeps Celery's headers as they were."""
    celery = properties("delay")
    again = celery._replace(headers={**celery.headers, "retries": 3})
    once = TASK.read(again, body("delay"))
    assert once is not None
    assert read(once.headers).attempt == 4
    copy = retried(again, WHY, 5, NOW)
    assert {k: copy.headers[k] for k in celery.headers} == again.headers
    back = TASK.read(copy, body("delay"))
    assert back is not None
    assert read(back.headers)[:3] == (5, None, NOW)
    later = datetime.fromtimestamp(NOW + 60, UTC).isoformat()
    theirs = copy._replace(headers={**copy.headers, "retries": 5, "eta": later})
    last = TASK.read(theirs, body("delay"))
    assert last is not None
    assert read(last.headers)[:3] == (6, None, NOW + 60)


def test_a_replay_is_not_expired() -> None:
    """Operators replay what has failed, whenever that was."""
    headers = {**properties("expires").headers, "amqpjobs-epoch": 1}
    assert read(read_as_job("expires", headers=headers).headers).deadline is None


def test_what_is_sent_by_amqpjobs_is_read_as_its_own() -> None:
    """Also with Celery's headers, which are for Celery's workers."""
    own = properties("delay")._replace(app_id="shop", type="shop.tasks.add", message_id="1")
    assert TASK.read(own, body("delay")) is None
    assert TASK.read(Properties(type="resize"), b"{}") is None
    assert TASK.read(Properties(), b'{"task": "an event has any names"}') is None


def test_protocol_1_is_refused() -> None:
    """The error names the setting."""
    with pytest.raises(DecodeError, match="task_protocol = 2"):
        TASK.read(properties("v1"), body("v1"))


@pytest.mark.parametrize("name", ["gzip", "bzip2"])
def test_compressed_bodies(name: str) -> None:
    """As kombu compresses them, with a limit."""
    plain = TASK.received("application/json", properties(name).headers, body(name))
    assert json.loads(plain)[0] == [2, 3]
    assert HEADER_CALLBACKS in read_as_job(name).headers  # it is not known what is in it


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({"compression": "application/x-gzip"}, b"nonsense"),
        ({"compression": "application/x-gzip"}, zlib.compress(b"[]" * 99)[:-5]),
        ({"compression": "application/x-gzip"}, zlib.compress(bytes(65 * 2**20))),
        ({"compression": "application/x-lzma"}, b"x"),
        ({"compression": 7}, b"x"),
    ],
)
def test_what_cannot_be_decompressed_is_refused(headers: Any, data: bytes) -> None:
    """Garbage, cut off, too large, another format."""
    with pytest.raises(DecodeError):
        TASK.received(None, headers, data)


@pytest.mark.parametrize("name", ["pickle", "yaml"])
def test_other_serializers_are_never_read(name: str) -> None:
    """The error says what to set."""
    said = properties(name)
    with pytest.raises(DecodeError, match="task_serializer='json'"):
        TASK.received(said.content_type, said.headers, body(name))


class Order(BaseModel):
    id: int


def test_arguments_are_bound_and_validated() -> None:
    """By position and by name, with defaults; a context is none of them."""

    async def pay(ctx: Context, order: Order, /, amount: Decimal, *, note: str = "-") -> None: ...

    load = payload_of(pay).load
    given = json.dumps([[{"id": 7}], {"amount": "1.5"}, None]).encode()
    assert load(given) == ((Order(id=7),), {"amount": Decimal("1.5")})
    typed = {"__type__": "decimal", "__value__": "2.5"}
    given = json.dumps([[{"id": 7}, typed], {"note": "x"}, {}]).encode()
    assert load(given) == ((Order(id=7),), {"amount": Decimal("2.5"), "note": "x"})


def test_one_argument_and_none() -> None:
    """The shapes that JSON bodies of amqpjobs treat in their own way."""

    async def one(n: int = 3) -> None: ...
    async def by_name(*, n: UUID) -> None: ...
    async def none() -> None: ...

    assert payload_of(one).load(b"[[5], {}, null]") == ((5,), {})
    assert payload_of(one).load(b'[[], {"n": 6}, null]') == ((6,), {})
    assert payload_of(one).load(b"[[], {}, null]") == ((3,), {})
    marked = b'{"__type__": "uuid", "__value__": {"hex": "00000000000000000000000000000005"}}'
    loaded = payload_of(by_name).load(b'[[], {"n": ' + marked + b"}, null]")
    assert loaded == ((), {"n": UUID(int=5)})
    assert payload_of(none).load(b"[[], {}, null]") == ((), {})


@pytest.mark.parametrize(
    "data", [b"[[], {}, null]", b"[[1, 2], {}, null]", b'[[1], {"n": 1}, null]', b'[["x"], {}, 0]',
             b'[["secret"], {}, null]', b'[[], {"m": 1}, null]', b"{}", b"1"],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(data: bytes) -> None:
    """Without their values, which may be secrets."""

    async def one(n: int) -> None: ...

    with pytest.raises(DecodeError) as caught:
        payload_of(one).load(data)
    assert "secret" not in str(caught.value)


def test_a_message_for_both_sides() -> None:
    """`later` sends what Celery's workers know as a task, and is read here as it was sent."""
    app = an_app()

    @app.job(queue="celery", body=CeleryTask, name="shop.tasks.pay")
    async def pay(order: Order, /, amount: Decimal) -> None: ...

    message = pay.message(Order(id=7), Decimal("1.5"))
    args, kwargs, embed = json.loads(message.body)
    assert (args, kwargs) == ([{"id": 7}], {"amount": "1.5"})
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    expected = {"task": "shop.tasks.pay", "id": message.id, "lang": "py"}
    assert dict(message.options.headers) == expected
    assert message.content_type == "application/json"
    loaded = definition_of(pay).payload.load(message.body)
    assert loaded == ((Order(id=7),), {"amount": Decimal("1.5")})
    with pytest.raises(InvalidArguments, match="order"):
        pay.message("x", Decimal(1))  # type: ignore[arg-type]


def test_the_contract_says_what_a_body_is() -> None:
    """A list of three."""
    app = an_app()
    app.job(queue="celery", body=CeleryTask)(_first)
    [message] = [m for n, m in app.asyncapi()["components"]["messages"].items() if n == "_first"]
    assert [part["type"] for part in message["payload"]["items"]][:2] == ["array", "object"]


async def test_a_request_is_refused() -> None:
    """Celery's worker would answer with a result of its own: the error names what asks both."""
    app = an_app()

    @app.job(queue="celery", body=CeleryTask)
    async def pay(n: int) -> None: ...

    with pytest.raises(ConfigurationError, match="request_task"):
        await pay.request(1)


def only(found: Any) -> Addressed:
    [each] = found
    assert isinstance(each, Addressed)
    return each


def test_a_result() -> None:
    """As Celery's worker sends it."""
    reply = only(TASK.replies(properties("delay"), body("delay"), Ending(DONE, NOW, b'{"a":1}')))
    assert reply.queue == "7e61d363-a66c-35f0-aaee-7c0d8e64da97"
    assert reply.properties.correlation_id == "8ff561ca-30e1-4bb6-b02f-70d465ca4b0d"
    assert reply.properties[:2] == ("application/json", "utf-8")
    assert json.loads(reply.body) == {
        "task_id": "8ff561ca-30e1-4bb6-b02f-70d465ca4b0d", "status": "SUCCESS",
        "result": {"a": 1}, "traceback": None, "children": [],
        "date_done": "2027-01-15T08:00:00+00:00",
    }  # fmt: skip


class OutOfStock(Exception):
    """Of this module."""


@pytest.mark.parametrize(
    ("error", "failure", "expected"),
    [
        (ValueError("no", 3), WHY, ("ValueError", ["no", 3], "builtins")),
        (ValueError(object), WHY, ("ValueError", [str(ValueError(object))], "builtins")),
        (
            OutOfStock(7), Failure("failed", "7", exception=f"{__name__}.OutOfStock"),
            ("OutOfStock", [7], __name__),
        ),
        (None, Failure("failed", "x", exception="a.b.C"), ("C", ["x"], "a.b")),
        (None, Failure("rejected", "too late"), ("Reject", ["too late"], "celery.exceptions")),
        (
            RuntimeError(), Failure("poison", "died", exception="amqpjobs.errors.JobProcessDied"),
            ("JobProcessDied", ["died"], "amqpjobs.errors"),
        ),
    ],
)  # fmt: skip
def test_a_failure(error: Exception | None, failure: Failure, expected: Any) -> None:
    """The caller raises the class that it knows under this name."""
    ending = Ending(FAILED, NOW, failure=failure, error=error)
    meta = json.loads(only(TASK.replies(properties("delay"), body("delay"), ending)).body)
    found = meta["result"]
    assert meta["status"] == "FAILURE"
    assert (found["exc_type"], found["exc_message"], found["exc_module"]) == expected


@pytest.mark.parametrize(("word", "said"), [(EXPIRED, "expired"), (CANCELLED, "revoked")])
def test_what_was_not_run(word: str, said: str) -> None:
    """Celery calls it revoked."""
    meta = json.loads(
        only(TASK.replies(properties("delay"), body("delay"), Ending(word, NOW))).body
    )
    assert (meta["status"], meta["result"]["exc_message"]) == ("REVOKED", [said])


def test_nobody_is_told_of_an_ignored_result() -> None:
    """Nor where there is no reply queue."""
    ending = Ending(DONE, NOW)
    assert not TASK.replies(properties("kwargs"), body("kwargs"), ending)
    without = properties("delay")._replace(reply_to="")
    assert not TASK.replies(without, body("delay"), ending)


def test_callbacks_and_errbacks() -> None:
    """Called with the result, or with the id of the task; twice with the same ids, if a task ends
    twice. The result names the callbacks as its children."""
    said, data = properties("link"), body("link")
    done = Ending(DONE, NOW, b"5")
    call = only(TASK.followers(said, data, done))
    assert call.queue == ""
    assert call.properties.headers["task"] == "shop.tasks.add"
    assert call.properties.headers["parent_id"] == said.headers["id"]
    assert json.loads(call.body)[0] == [5, 5]
    assert only(TASK.followers(said, data, done)).properties == call.properties
    meta = json.loads(only(TASK.replies(said, data, done)).body)
    assert meta["children"] == [[[call.properties.headers["id"], None], None]]
    failed = Ending(FAILED, NOW, failure=WHY)
    call = only(TASK.followers(said, data, failed))
    assert call.properties.headers["task"] == "shop.tasks.fail"
    assert json.loads(call.body)[0] == []  # it is immutable
    assert not TASK.followers(said, data, Ending(EXPIRED, NOW))


def test_a_chain() -> None:
    """The next task gets the result, the rest of the chain, and the id that was chosen for it."""
    said, data = properties("chain"), body("chain")
    call = only(TASK.followers(said, data, Ending(DONE, NOW, b"5")))
    args, _, embed = json.loads(call.body)
    assert args == [5, 4]
    assert call.properties.headers["id"] == "69e21edf-af83-4bad-aff6-09478d5a5973"
    assert call.properties.headers["root_id"] == said.headers["id"]
    assert call.properties.reply_to == said.reply_to
    [rest] = embed["chain"]
    assert rest["options"]["task_id"] == "7ff7f130-507f-48e0-8767-3e008e9fb080"
    last = only(TASK.followers(call.properties, call.body, Ending(DONE, NOW, b"9")))
    assert json.loads(last.body) == [
        [5, 6], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    ]  # fmt: skip


def test_a_chain_that_fails() -> None:
    """All of its tasks have failed, of which the last is the one that its caller waits for."""
    ending = Ending(FAILED, NOW, failure=WHY)
    replies = TASK.replies(properties("chain"), body("chain"), ending)
    assert [json.loads(each.body)["task_id"] for each in replies] == [
        "4e3ff2ae-b031-4a1b-ba9b-591363945db6", "7ff7f130-507f-48e0-8767-3e008e9fb080",
        "69e21edf-af83-4bad-aff6-09478d5a5973",
    ]  # fmt: skip
    assert not TASK.followers(properties("chain"), body("chain"), ending)


OPTIONS = {
    "queue": "mails", "countdown": 5, "expires": 60, "priority": 3, "time_limit": 20,
    "soft_time_limit": 10, "headers": {"tenant": "a"}, "ignore_result": True, "group_id": "g",
    "group_index": 0, "link": [{"task": "after"}], "link_error": {"task": "oops"},
    "stamped_headers": ["customer"], "customer": "c", "retry": True, "shadow": "s",
}  # fmt: skip


def calling(**options: Any) -> bytes:
    return json.dumps([[], {}, {"callbacks": [{"task": "next", "options": options}]}]).encode()


def test_the_options_of_what_follows() -> None:
    """They are those of Celery's `apply_async`."""
    call = only(TASK.followers(properties("delay"), calling(**OPTIONS), Ending(DONE, NOW)))
    headers = call.properties.headers
    assert (call.queue, call.properties.priority, call.properties.expiration) == (
        "mails", 3, "60000"
    )  # fmt: skip
    assert headers["eta"] == datetime.fromtimestamp(NOW + 5, UTC).isoformat()
    assert headers["expires"] == datetime.fromtimestamp(NOW + 60, UTC).isoformat()
    assert (headers["timelimit"], headers["group"], headers["group_index"]) == ([20, 10], "g", 0)
    assert (headers["tenant"], headers["ignore_result"], headers["shadow"]) == ("a", True, "s")
    assert (headers["stamps"], headers["stamped_headers"]) == ({"customer": "c"}, ["customer"])
    embed = json.loads(call.body)[2]
    assert (embed["callbacks"], embed["errbacks"]) == ([{"task": "after"}], [{"task": "oops"}])


@pytest.mark.parametrize(
    "options",
    [
        {"countdown": "5"}, {"priority": -1}, {"priority": 300}, {"priority": True},
        {"eta": "soon"}, {"expires": []}, {"time_limit": "x"}, {"group_index": "1"},
        {"queue": "amq.gen-x"}, {"queue": "amqpjobs.hold"}, {"queue": "x" * 256},
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: Any) -> None:
    """Before the task runs."""

    async def none() -> None: ...

    with pytest.raises(DecodeError):
        payload_of(none).load(calling(**options))


def test_two_systems_on_one_queue_are_refused() -> None:
    """A queue is read as the messages of one system."""

    class Other(CeleryTask): ...

    from amqpjobs.worker.translation import translation_of

    app, queue = an_app(), Queue("celery")
    app.job(queue=queue, body=CeleryTask)(_first)
    app.job(queue=queue, body=Other)(_second)
    with pytest.raises(ConfigurationError, match="another job"):
        translation_of(app.client.runtime.registry, queue, "celery", {})


async def _first(n: int) -> None: ...


async def _second(n: int) -> None: ...
