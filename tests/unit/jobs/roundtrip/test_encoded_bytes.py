"""Bytes in JSON: any of them arrive as they are, wherever they stand."""

import dataclasses
import json
from base64 import b64encode, urlsafe_b64encode
from typing import Annotated, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from amqpjobs import App
from amqpjobs.errors import DecodeError, InvalidArguments
from amqpjobs.jobs.job import definition_of
from amqpjobs.jobs.message.arguments import jsonable
from amqpjobs.jobs.results import dump_result, load_result
from amqpjobs.jobs.roundtrip.encoded_bytes import adapter_of
from amqpjobs.jobs.roundtrip.roundtrip import NotTheSame, RoundTrip
from amqpjobs.settings import load_settings

RAW = b"\xff\x00\xfe?>"
WRITTEN = urlsafe_b64encode(RAW).decode()


class Part(BaseModel):
    data: bytes
    parts: "list[Part]" = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    data: bytes


class Hex(BaseModel):
    model_config = ConfigDict(ser_json_bytes="hex", val_json_bytes="hex")
    data: bytes
    part: Part | None = None


class OneSided(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64")
    data: bytes


@dataclasses.dataclass
class Plain:
    data: bytes


@attrs.define
class Made:
    data: bytes
    part: Part


class Keys(TypedDict):
    data: bytes


VALUES: list[tuple[Any, Any]] = [
    (bytes, RAW), (bytes, b""), (bytes | None, RAW), (bytes | None, None), (bytes | int, 7),
    (bytes | int, RAW), (list[bytes], [RAW, b""]), (dict[str, bytes], {"a": RAW}),
    (dict[bytes, int], {RAW: 1}), (tuple[bytes, int], (RAW, 1)), (set[bytes], {RAW}),
    (Part, Part(data=RAW, parts=[Part(data=b"\xff")])), (list[Part], [Part(data=RAW)]),
    (Strict, Strict(data=RAW)), (Plain, Plain(RAW)), (Made, Made(RAW, Part(data=RAW))),
    (Keys, {"data": RAW}), (Annotated[bytes, Field(max_length=5)], RAW),
    (Annotated[bytes, AfterValidator(lambda b: b)], RAW), (Hex, Hex(data=RAW)),
    (Hex, Hex(data=RAW, part=Part(data=RAW))), (OneSided, OneSided(data=RAW)),
    (bytes | Part, RAW),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), VALUES)
def test_bytes_arrive_as_they_are(annotation: Any, value: Any) -> None:
    """Also in models, dataclasses and what is made by attrs, lists, dicts, unions."""
    adapter = adapter_of(jsonable(annotation))
    body = RoundTrip(adapter).write(value)
    assert adapter.validate_json(body) == value
    assert type(adapter.validate_json(body)) is type(value)
    json.loads(body)


@given(st.binary())
def test_any_bytes_are_base64url(data: bytes) -> None:
    """With padding, which other programs need."""
    adapter = adapter_of(bytes)
    body = RoundTrip(adapter).write(data)
    assert json.loads(body) == urlsafe_b64encode(data).decode()
    assert adapter.validate_json(body) == data
    assert adapter.validate_json(json.dumps(b64encode(data).decode())) == data


@pytest.mark.parametrize("text", ["hello world", "käse", "a", "abc", "{}", "\x00"])
def test_text_of_an_older_release_is_read_where_it_is_no_base64(text: str) -> None:
    """It was the bytes of the text."""
    assert adapter_of(bytes).validate_json(json.dumps(text)) == text.encode()


def test_what_a_class_says_itself_stays() -> None:
    """Its configuration, where it reads what it writes; its serializers; pydantic's own types."""
    assert json.loads(RoundTrip(adapter_of(Hex)).write(Hex(data=RAW)))["data"] == RAW.hex()
    assert adapter_of(Base64Bytes).dump_json(b"hi") == TypeAdapter(Base64Bytes).dump_json(b"hi")
    own = Annotated[bytes, PlainSerializer(lambda b: b.decode("latin-1"))]
    assert adapter_of(own).dump_json(b"a") == b'"a"'
    assert Part(data=b"a").model_dump_json() == '{"data":"a","parts":[]}', "elsewhere as ever"


def test_limits_are_those_of_the_bytes() -> None:
    """Not of the text that they are written as."""
    adapter = adapter_of(Annotated[bytes, Field(min_length=5, max_length=5)])
    assert adapter.validate_json(json.dumps(WRITTEN)) == RAW
    with pytest.raises(ValidationError):
        adapter.validate_json(json.dumps(urlsafe_b64encode(RAW + b"x").decode()))
    for wrong in ("7", "null", "[1]"):
        with pytest.raises(ValidationError):
            adapter.validate_json(wrong)


def test_the_schema_says_how_they_are_written() -> None:
    """By JSON Schema's own word, with what else is said of them."""
    described = adapter_of(Annotated[bytes, Field(description="a picture", max_length=5)])
    assert described.json_schema() == {
        "type": "string", "contentEncoding": "base64url", "description": "a picture"
    }  # fmt: skip


def test_what_could_be_text_as_well_is_refused() -> None:
    """JSON has one kind of text: it would arrive as str."""
    with pytest.raises(NotTheSame):
        RoundTrip(adapter_of(bytes | str)).write(RAW)
    assert RoundTrip(adapter_of(bytes | str)).write("text") == b'"text"'


app = App("bytes", settings=load_settings(url="amqp://nowhere.invalid"))


@app.job(queue="work")
async def echo(data: bytes, part: Part, *, more: bytes = b"\xff") -> Part:
    return part


def test_arguments_and_results_of_a_job() -> None:
    """By the same rule; a default may be any bytes, too."""
    definition, part = definition_of(echo), Part(data=RAW)
    body = echo.message(RAW, part).body
    assert json.loads(body) == {"data": WRITTEN, "part": {"data": WRITTEN, "parts": []}}
    assert definition.payload.load(body) == ((), {"data": RAW, "part": part})
    result = dump_result(definition, part, 1000)
    assert load_result(definition, result) == part
    with pytest.raises(InvalidArguments):
        echo.message("text", Part(data=RAW), more=7)  # type: ignore[arg-type]
    with pytest.raises(DecodeError, match="data"):
        definition.payload.load(b'{"data": 7, "part": {"data": ""}}')


def test_the_document_of_the_app_says_so() -> None:
    """For programs in other languages."""
    schemas = app.asyncapi()["components"]
    properties = schemas["messages"]["echo"]["payload"]["properties"]
    assert properties["data"]["contentEncoding"] == "base64url"
    assert schemas["schemas"]["Part"]["properties"]["data"]["contentEncoding"] == "base64url"
