"""The AsyncAPI document: valid by the official schema, and true of what is sent."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import attrs
import jsonschema
import pytest
from pydantic import BaseModel, Field

from amqpjobs import (
    App,
    Bytes,
    CloudEvent,
    CloudEventOf,
    Context,
    MsgPack,
    Queue,
    Reject,
    Retry,
)
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.settings import load_settings
from tests.support.npm import package
from tests.support.programs import command, environment

OFFICIAL = (
    "@asyncapi/specs",
    "6.11.1",
    "sha512-A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ==",
)

URL = "amqps://ada:s3cret@broker.example/vh%2Fone"


class Circle(BaseModel):
    kind: Literal["circle"]
    radius: float


class Box(BaseModel):
    kind: Literal["box"]
    sides: tuple[float, float]
    within: "Box | None" = None


Shape = Annotated[Circle | Box, Field(discriminator="kind")]


@dataclass
class Place:
    """What is drawn on."""

    page: int = Field(default=1, description="From 1.")
    discriminator: str = ""


@attrs.define
class Pen:
    colour: str
    width: float = 1.0


class Opaque:
    """What pydantic has no schema for."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


class PublishAlbum(BaseModel):
    album_id: UUID


def shapes_app() -> App:
    app = App("shapes", settings=load_settings(url=URL), retry=Retry(attempts=3))
    drawings = Queue("drawings", priorities={"high": 6, "normal": 3, "low": 1}, rate="100/s")
    native = Queue("native", type="classic", max_priority=9)

    @app.job(queue=drawings, timeout=30)
    async def draw(ctx: Context, shape: Shape) -> Box | None:
        """Draw a shape.

        It may run twice.
        """

    @app.job(queue=drawings)
    def place(shape: Shape, at: Place, pen: Pen, copies: int = 1) -> Place | Reject: ...

    @app.job(queue=native, name="send mail/€ now", retry=Retry(attempts=None))
    async def send() -> None: ...

    @app.job(queue=native, name="send mail_€ now")
    async def send_again(*, at: Place) -> Any: ...

    @app.job(queue="opaque")
    async def opaque(x: int) -> Opaque: ...

    class Album(PublishAlbum):
        @app.job(queue="albums")
        async def call(self, twice: bool) -> str: ...

    return app


@pytest.fixture
def app() -> App:
    return shapes_app()


@pytest.fixture
def document(app: App) -> dict[str, Any]:
    return app.asyncapi("2026.1")


@pytest.fixture(scope="session")
def official() -> jsonschema.Draft7Validator:
    """AsyncAPI's own schema of a document of version 3.0."""
    schema = package(*OFFICIAL) / "schemas" / "3.0.0.json"
    return jsonschema.Draft7Validator(json.loads(schema.read_text()))


def resolved(document: dict[str, Any], reference: str) -> Any:
    assert reference.startswith("#/"), reference
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part]
    return found


def references(value: Any) -> Iterator[str]:
    """Every reference in it."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for part in value.values():
            yield from references(part)
    elif isinstance(value, list):
        for part in value:
            yield from references(part)


def validator(document: dict[str, Any], message: str, part: str = "payload") -> Any:
    """A validator of the payload of that message, as draft 7, which AsyncAPI's schemas are."""
    schema = document["components"]["messages"][message][part]
    return jsonschema.Draft7Validator({"allOf": [schema], "components": document["components"]})


def test_the_document_is_valid_by_the_official_schema(
    document: dict[str, Any], official: jsonschema.Draft7Validator
) -> None:
    """Several jobs on a queue, several parameters, one, none, methods, priorities, odd names."""
    official.validate(document)
    json.dumps(document)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d["channels"]["drawings"]["bindings"]["amqp"].update(arguments={}),
        lambda d: d["operations"]["draw"].update(action="subscribe"),
        lambda d: d["components"]["schemas"]["Box"].update(discriminator={"propertyName": "kind"}),
        lambda d: d["operations"]["draw"]["reply"]["address"].update(location="reply_to"),
        lambda d: d.pop("info"),
    ],
)
def test_the_official_schema_refuses_what_is_wrong(
    spoil: Callable[[Any], Any],
    document: dict[str, Any],
    official: jsonschema.Draft7Validator,
) -> None:
    """Else the test above would prove nothing."""
    spoil(document)
    assert not official.is_valid(document)


def test_an_app_without_jobs_has_a_valid_document(official: jsonschema.Draft7Validator) -> None:
    """The emptiest one."""
    official.validate(App("empty", settings=load_settings(url=URL)).asyncapi())


def test_the_photo_album_has_a_valid_document(official: jsonschema.Draft7Validator) -> None:
    """An app as people write one."""
    from amqpjobs.demo.album import app as album

    official.validate(album.asyncapi())


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """The official schema looks at a reference's form only."""
    found = set(references(document))
    assert len(found) > 20
    for reference in found:
        assert resolved(document, reference) is not None


def test_the_server_is_named_without_who_logs_in(document: dict[str, Any]) -> None:
    """The document goes to strangers."""
    server = document["servers"]["rabbitmq"]
    assert (server["host"], server["protocol"]) == ("broker.example:5671", "amqps")
    assert "vh/one" in server["description"]
    assert not any(secret in json.dumps(document) for secret in ("s3cret", "ada"))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("amqp://guest:guest@127.0.0.1:5673/", "127.0.0.1:5673"),
        ("amqp://localhost", "localhost:5672"),
        ("amqp://u:p%40ss%2Fword@[::1]:5672/", "[::1]:5672"),
    ],
)
def test_hosts_of_every_kind_are_named(url: str, host: str) -> None:
    """With the port of the scheme."""
    document = App("a", settings=load_settings(url=url)).asyncapi()
    assert document["servers"]["rabbitmq"]["host"] == host


def test_each_node_of_a_cluster_is_a_server() -> None:
    """By its number in the URL."""
    settings = load_settings(url="amqps://u:s3cret@rabbit-1,rabbit-2:5673/v")
    servers = App("a", settings=settings).asyncapi()["servers"]
    assert {name: server["host"] for name, server in servers.items()} == {
        "rabbitmq-1": "rabbit-1:5671",
        "rabbitmq-2": "rabbit-2:5673",
    }


def test_a_url_that_nothing_could_connect_to_is_an_error() -> None:
    """A password that is not quoted, which is not in the message."""
    app = App("a", settings=load_settings(url="amqp://u:p@ss/word#1@[::1]:5672/"))
    with pytest.raises(ConfigurationError, match="write / as %2F") as caught:
        app.asyncapi()
    assert "word" not in str(caught.value).replace("password", "")


def test_each_priority_is_a_channel_with_an_operation_for_each_job(
    document: dict[str, Any],
) -> None:
    """The queues as they are on the broker, arguments too."""
    channels = document["channels"]
    assert [c["x-amqpjobs"]["weight"] for n, c in channels.items() if "drawings" in n] == [6, 3, 1]
    high = channels["drawings.high"]
    assert high["address"] == high["bindings"]["amqp"]["queue"]["name"] == "drawings.high"
    assert high["x-amqpjobs"]["arguments"]["x-delivery-limit"] == 20
    assert set(high["messages"]) == {"draw", "place"}
    assert channels["native"]["x-amqpjobs"]["arguments"]["x-max-priority"] == 9

    drawing = {n: o for n, o in document["operations"].items() if n.startswith("draw")}
    assert {o["channel"]["$ref"] for o in drawing.values()} == {
        "#/channels/drawings", "#/channels/drawings.high", "#/channels/drawings.low",
    }  # fmt: skip
    assert {o["action"] for o in drawing.values()} == {"receive"}
    assert drawing["draw"]["summary"] == "Draw a shape."
    assert drawing["draw"]["x-amqpjobs"] == {"timeout": 30, "attempts": 3}


def test_names_that_differ_stay_different(document: dict[str, Any]) -> None:
    """Keys are of few characters, names are not."""
    messages = document["components"]["messages"]
    assert messages["send_mail___now"]["name"] == "send mail/€ now"
    assert messages["send_mail___now_2"]["name"] == "send mail_€ now"
    assert messages["send_mail___now"]["bindings"]["amqp"]["messageType"] == "send mail/€ now"


def test_what_is_sent_fits_and_what_is_refused_does_not(app: App, document: dict[str, Any]) -> None:
    """The schemas are those by which a worker validates."""
    circle = {"kind": "circle", "radius": 1.0}
    box = {"kind": "box", "sides": [1.0, 2.0], "within": None}
    whole = {"shape": box, "at": {"page": 2, "discriminator": "x"}, "pen": {"colour": "red"}}
    right = {
        "draw": [circle, box, {**box, "within": box}],
        "place": [whole, {**whole, "copies": 2}],
        "send_mail___now": [{}],
        "send_mail___now_2": [{"page": 3}, {}],
        "Album.call": [{"self": {"album_id": str(UUID(int=7))}, "twice": True}],
    }
    wrong = {
        "draw": [{}, {"kind": "oval"}, {**box, "sides": [1.0]}, {**box, "sides": [1.0, "x"]}],
        "place": [{}, circle, {**whole, "colour": "red"}, {**whole, "copies": "two"}],
        "send_mail___now": [{"x": 1}, 1],
        "send_mail___now_2": [[], {"page": "one"}],
        "Album.call": [{"twice": True}, {"self": {"album_id": "x"}}],
    }
    for key in right:
        payload = registry_of(app).find(document["components"]["messages"][key]["name"]).payload
        for body in right[key]:
            validator(document, key).validate(body)
            payload.load(json.dumps(body).encode())
        for body in wrong[key]:
            assert not validator(document, key).is_valid(body), (key, body)


def test_a_reply_is_the_result_or_the_error(document: dict[str, Any]) -> None:
    """At the address that the asker named."""
    reply = document["operations"]["draw"]["reply"]
    assert reply["address"]["location"] == "$message.header#/replyTo"
    assert resolved(document, reply["channel"]["$ref"])["address"] is None
    assert [r["$ref"].rpartition("/")[2] for r in reply["messages"]] == [
        "draw.result", "amqpjobs.error",
    ]  # fmt: skip
    result = validator(document, "draw.result")
    assert result.is_valid(None)
    assert not result.is_valid({"kind": "circle"})
    error = validator(document, "amqpjobs.error")
    assert error.is_valid({"error": "ValueError", "message": "no", "job": "draw", "attempt": 1})
    assert not error.is_valid({"error": "ValueError"})
    from amqpjobs.jobs.message.failure import Failure
    from amqpjobs.jobs.message.reply import error_body

    error.validate(json.loads(error_body(Failure("invalid", "not JSON"))))
    # `Reject` is no result; and what cannot become JSON cannot be asked for.
    assert validator(document, "place.result").is_valid({"page": 1, "discriminator": ""})
    assert not validator(document, "place.result").is_valid({"reason": "x", "page": "one"})


def test_what_has_no_schema_may_be_anything(document: dict[str, Any]) -> None:
    """One job's odd type does not cost the document of all others."""
    assert document["components"]["messages"]["opaque.result"]["payload"] == {}


def test_models_of_the_same_name_stay_apart(official: jsonschema.Draft7Validator) -> None:
    """Two modules may each have an `Order`."""
    app = App("orders", settings=load_settings(url=URL))

    def model(module: str, **fields: Any) -> type[BaseModel]:
        return type("Order", (BaseModel,), {"__annotations__": fields, "__module__": module})

    a, b = model("shop", number=int), model("kitchen", dishes=list[str])

    @app.job(queue="orders")
    async def sell(order: a) -> None: ...

    @app.job(queue="orders")
    async def cook(order: b, quick: bool) -> None: ...

    document = app.asyncapi()
    official.validate(document)
    assert validator(document, "sell").is_valid({"number": 1})
    assert not validator(document, "sell").is_valid({"dishes": []})
    assert validator(document, "cook").is_valid({"order": {"dishes": []}, "quick": True})
    assert not validator(document, "cook").is_valid({"order": {"number": 1}, "quick": True})


def test_headers_are_described(document: dict[str, Any]) -> None:
    """Those of the wire contract."""
    headers = validator(document, "draw", "headers")
    assert headers.is_valid({"amqpjobs-attempt": 2, "traceparent": "00-1-2-01", "tenant": "acme"})
    assert not headers.is_valid({"amqpjobs-attempt": 0})
    assert not headers.is_valid({"amqpjobs-deadline": "soon"})


def test_the_command_prints_it(tmp_path: Path, official: jsonschema.Draft7Validator) -> None:
    """Without a broker, and as JSON, whether that is asked for or not."""
    env = environment("amqp://u:s3cret@nowhere.invalid/", tmp_path)
    for options in ([], ["--json", "--api-version", "7"]):
        done = command("asyncapi", *options, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        printed = json.loads(done.stdout)
        official.validate(printed)
        assert "s3cret" not in done.stdout
    assert printed["info"] == {"title": "jobs", "version": "7"}
    assert {"quick", "Album.publish", "urgent.high"} <= set(printed["operations"])


def test_a_url_that_is_none_is_named(tmp_path: Path) -> None:
    """Usage, and not its value."""
    done = command("asyncapi", env=environment("http://s3cret/", tmp_path))
    assert done.returncode == 2
    assert "AMQPJOBS_URL is not a URL of RabbitMQ" in done.stderr
    assert "s3cret" not in done.stderr


def test_a_job_named_like_an_operation_of_another_keeps_its_own() -> None:
    """`draw` of priority `high`, and a job `draw.high`."""
    app = App("names", settings=load_settings(url=URL))
    queue = Queue("drawings", priorities={"high": 2, "low": 1})

    @app.job(queue=queue)
    async def draw(x: int) -> None: ...

    @app.job(queue=queue, name="draw.high")
    async def other(x: str) -> None: ...

    operations = app.asyncapi()["operations"]
    assert set(operations) == {"draw", "draw.high", "draw.high_2", "draw.high.high"}
    messages = operations["draw.high_2"]["messages"]
    assert messages == [{"$ref": "#/channels/drawings.high/messages/draw"}]


def test_a_job_whose_result_cannot_travel_answers_nobody() -> None:
    """It can be run later, and asked for nothing."""

    class Handle:
        pass

    app = App("handles", settings=load_settings(url=URL))

    @app.job(queue="handles")
    async def handle(x: int) -> Handle: ...

    document = app.asyncapi()
    assert "reply" not in document["operations"]["handle"]
    assert set(document["channels"]) == {"handles"}


def test_messages_of_other_formats_are_described(official: jsonschema.Draft7Validator) -> None:
    """By their content type, and the schema of what is validated; bytes have none."""
    app = App("formats", settings=load_settings(url=URL))

    @app.job(queue="formats", body=MsgPack)
    async def packed(pen: Circle, data: bytes) -> None: ...

    @app.job(queue="formats", body=Bytes)
    async def raw(data: bytes) -> None: ...

    @app.job(queue="formats", body=CloudEvent)
    async def event(circle: Circle) -> None: ...

    @app.job(queue="formats", body=CloudEvent)
    async def whole(event: CloudEventOf[Circle]) -> None: ...

    @app.job(queue="formats", body=CloudEvent(mode="binary"))
    async def binary(event: CloudEventOf[Circle]) -> None: ...

    document = app.asyncapi()
    official.validate(document)
    messages = document["components"]["messages"]
    circle = {"$ref": "#/components/schemas/Circle"}
    assert {name: messages[name]["contentType"] for name in app.jobs} == {
        "packed": "application/msgpack",
        "raw": "application/octet-stream",
        "event": "application/cloudevents+json",
        "whole": "application/cloudevents+json",
        "binary": "application/json",
    }
    assert "payload" not in messages["raw"]
    assert messages["packed"]["payload"]["properties"]["pen"] == circle
    assert messages["packed"]["payload"]["properties"]["data"]["format"] == "binary"
    for name in ("event", "whole"):
        payload = messages[name]["payload"]
        assert payload["properties"]["data"] == circle
        sent = event.message(Circle(kind="circle", radius=1.0))
        resolved = {**payload, "components": document["components"]}
        jsonschema.Draft7Validator(resolved).validate(json.loads(sent.body))
    assert messages["binary"]["payload"] == circle
