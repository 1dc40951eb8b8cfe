"""Arguments in a format: what is sent is what arrives, or it is refused."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    Base64Bytes,
    BaseModel,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    field_serializer,
)
from typing_extensions import TypedDict

from amqpjobs import App, Bytes, MsgPack, Text, Unique
from amqpjobs.errors import DecodeError, InvalidArguments
from amqpjobs.jobs.job import Job, definition_of
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.properties import JSON, Properties

app = App("formats")

RAW = bytes(range(256))
MOMENT = datetime(2026, 11, 30, 1, 2, 3, 456789, tzinfo=UTC)


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    data: bytes


class Keys(TypedDict, total=False):
    data: bytes
    when: datetime


@dataclass(frozen=True, slots=True)
class Box:
    data: bytes
    sizes: tuple[int, ...] = ()


@attrs.define
class Crate:
    data: bytes
    when: datetime | None = None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    when: datetime
    sizes: tuple[int, int]
    kind: Literal["a", "b"] = "a"


class Image(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    name: str = Field(alias="Name")
    data: bytes
    took: timedelta
    parts: dict[int, bytes]
    inner: "Image | None" = None


class Foreign:
    """An object that only its own format knows, such as one of Protobuf."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Foreign) and other.n == self.n

    __hash__ = None  # type: ignore[assignment]


class ForeignFormat:
    content_type = "application/x-foreign"

    def load(self, data: bytes) -> Foreign:
        return Foreign(int(data))

    def dump(self, value: Any) -> bytes:
        return str(value.n).encode()


def job_of(annotation: Any, body: Any = MsgPack) -> Job[..., Any, Any]:
    async def take(value: Any) -> None: ...

    take.__annotations__ = {"value": annotation, "return": None}
    declared: Job[..., Any, Any] = App("one").job(queue="q", body=body)(take)
    return declared


def back(job: Job[..., Any, Any], *args: Any) -> Any:
    (value,), rest = definition_of(job).payload.load(job.message(*args).body)
    assert not rest
    return value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (bytes, RAW),
        (bytes | str, RAW),
        (bytes | str, "text"),
        (list[bytes], [b"\xff", b""]),
        (dict[bytes, int], {b"\xff": 1}),
        (set[bytes], {b"\xff"}),
        (Any, {"a": [RAW, 1, None], "b": 1.5}),
        (dict[str, Any], {"raw": RAW}),
        (list, [RAW, {"deep": RAW}]),
        (datetime, MOMENT),
        (datetime, MOMENT.replace(tzinfo=None)),
        (datetime, MOMENT.astimezone(timezone(timedelta(hours=2)))),
        (date, date(2026, 11, 30)),
        (time, time(1, 2, 3)),
        (timedelta, timedelta(days=1, microseconds=7)),
        (Decimal, Decimal("1.10")),
        (UUID, UUID(int=7)),
        (Colour, Colour.RED),
        (Path, Path("/tmp/x")),
        (IPv4Address, IPv4Address("10.0.0.1")),
        (frozenset[int], frozenset({1, 2})),
        (tuple[int, str], (1, "x")),
        (Point, Point(1, RAW)),
        (Keys, {"data": RAW, "when": MOMENT}),
        (Box, Box(RAW, (1, 2))),
        (Crate, Crate(RAW, MOMENT)),
        (Strict, Strict(when=MOMENT, sizes=(1, 2))),
        (dict[int, UUID], {1: UUID(int=1)}),
        (Base64Bytes, b"aGVsbG8="),
        (int | None, None),
        (Annotated[int, Field(gt=3)], 4),
        (float, float("inf")),
        (int, 2**63),
    ],
    ids=str,
)
def test_msgpack_gives_back_what_was_sent(annotation: Any, value: Any):
    """Of the types that pydantic knows, bytes that are no UTF-8 among them."""
    job = job_of(annotation)
    found = back(job, value)
    if annotation is Base64Bytes:
        assert found == b"hello"
    else:
        assert found == value
        assert type(found) is type(value)


def test_a_model_goes_by_its_aliases_and_keeps_its_bytes():
    """What it says of bytes in JSON is no matter to a format that has bytes."""
    inner = Image(Name="i", data=RAW, took=timedelta(1), parts={})
    image = Image(Name="x", data=RAW, took=timedelta(seconds=5), parts={7: b"\xfe"}, inner=inner)
    job = job_of(Image)
    sent = msgpack.unpackb(job.message(image).body)
    assert sent["Name"] == "x"
    assert (sent["data"], sent["took"], sent["parts"]) == (RAW, "PT5S", {"7": b"\xfe"})
    assert sent["inner"]["data"] == RAW
    assert back(job, image) == image


def test_a_strict_model_is_read_from_a_stranger():
    """Who packs a list for a tuple, and text for a datetime, as in JSON."""
    job = job_of(Strict)
    body = msgpack.packb({"when": MOMENT.isoformat(), "sizes": [1, 2]})
    (value,), _ = definition_of(job).payload.load(body)
    assert value == Strict(when=MOMENT, sizes=(1, 2))
    with pytest.raises(DecodeError, match="sizes"):
        definition_of(job).payload.load(msgpack.packb({"when": "now", "sizes": [1]}))


def test_bytes_are_never_taken_for_base64():
    """Not where a text is expected: bytes that are no text are refused."""
    with pytest.raises(DecodeError, match="value"):
        definition_of(job_of(str)).payload.load(msgpack.packb(RAW))


def test_timestamps_if_asked_for():
    """In models, too. A datetime without a zone has no timestamp, and goes as text."""
    job = job_of(Keys, MsgPack(timestamps=True))
    sent = msgpack.unpackb(job.message({"when": MOMENT}).body, timestamp=3)
    assert sent == {"when": MOMENT}
    assert back(job, {"when": MOMENT}) == {"when": MOMENT}
    naive = MOMENT.replace(tzinfo=None)
    assert msgpack.unpackb(job.message({"when": naive}).body)["when"] == naive.isoformat()
    assert back(job_of(Any, MsgPack(timestamps=True)), {"x": [MOMENT]}) == {"x": [MOMENT]}


class Masked(BaseModel):
    secret: SecretStr


class Rounded(BaseModel):
    n: float

    @field_serializer("n")
    def round(self, n: float) -> float:
        return float(int(n))


class Odd:
    pass


@pytest.mark.parametrize(
    ("annotation", "value", "words"),
    [
        (int, "x", "value: Input should be a valid integer"),
        (int, 2**64, "cannot become MsgPack"),
        (Masked, Masked(secret=SecretStr("s")), "secret"),
        (Rounded, Rounded(n=1.5), "n"),
        (Any, {"x": Odd()}, "cannot become MsgPack: can not serialize 'Odd' object"),
        (Any, {"x": MOMENT}, "datetime would arrive as str"),
        (Any, (1, 2), "tuple"),
        (Keys, {"data": b"", "more": 1}, "more"),
    ],
    ids=str,
)
def test_what_would_arrive_as_something_else_is_refused(annotation: Any, value: Any, words: str):
    """Before it is sent, naming where."""
    with pytest.raises(InvalidArguments, match=words):
        job_of(annotation).message(value)


def test_text_takes_what_pydantic_reads_from_text():
    """And is as strict about what comes back."""
    for annotation, value in ((str, "ä\n"), (int, 5), (UUID, UUID(int=3)), (datetime, MOMENT)):
        assert back(job_of(annotation, Text), value) == value
    with pytest.raises(InvalidArguments, match="body=Text sends text"):
        job_of(bool, Text).message(True)


def test_bytes_as_they_are():
    """Nothing is added."""
    assert job_of(bytes, Bytes).message(RAW).body == RAW
    with pytest.raises(InvalidArguments, match="body=Bytes sends bytes, not int"):
        job_of(int, Bytes).message(5)


def test_several_parameters_are_a_mapping():
    """By their names, with their defaults."""

    @app.job(queue="q", body=MsgPack, name="several")
    async def several(a: bytes, /, b: int = 2, *, c: Path = Path("x")) -> None: ...

    message = several.message(RAW, c=Path("y"))
    assert msgpack.unpackb(message.body) == {"a": RAW, "c": "y"}
    assert definition_of(several).payload.load(message.body) == ((RAW,), {"c": Path("y")})
    with pytest.raises(DecodeError, match="d: Extra inputs"):
        definition_of(several).payload.load(msgpack.packb({"a": b"", "d": 1}))


def test_no_parameters_are_an_empty_map():
    """Anything else is a mistake, as with JSON."""

    @app.job(queue="q", body=MsgPack, name="nothing")
    async def nothing() -> None: ...

    payload = definition_of(nothing).payload
    assert nothing.message().body == b"\x80"
    assert payload.load(b"\xc0") == ((), {})
    with pytest.raises(DecodeError, match="takes no arguments"):
        payload.load(b"\x01")


def test_an_object_that_json_does_not_have_reaches_its_format():
    """As it is, both ways. A key of it needs to be said."""
    job = job_of(InstanceOf[Foreign], ForeignFormat)
    message = job.message(Foreign(7))
    assert (message.body, message.content_type) == (b"7", "application/x-foreign")
    assert back(job, Foreign(7)) == Foreign(7)
    with pytest.raises(InvalidArguments, match="key=lambda"):
        definition_of(job).payload.json_of("value", Foreign(7))


def test_a_format_without_a_content_type_sends_bytes():
    """Not JSON, which it is not."""

    class Plain:
        def load(self, data: bytes) -> Any:
            return data

        def dump(self, value: Any) -> bytes:
            return bytes(value)

    assert job_of(bytes, Plain).message(b"x").content_type == "application/octet-stream"


def test_a_users_format_may_have_attributes_of_any_name():
    """What amqpjobs' own formats have beside load and dump means nothing in it."""

    class Counting:
        single, accepts, natives, bound, filled = True, frozenset({"x/y"}), None, 1, 1

        def __init__(self) -> None:
            self.sent = self.received = 0

        def load(self, data: bytes) -> Any:
            self.received += 1
            return {"a": data, "b": self.received}

        def dump(self, value: Any) -> bytes:
            self.sent += 1
            return bytes(value["a"])

    @app.job(queue="q", body=Counting, name="counting")
    async def counting(a: bytes, b: int) -> None: ...

    assert counting.message(b"x", 1).body == b"x"
    said = Properties("any/thing")
    definition = definition_of(counting)
    assert received(definition.body, said, b"x", 10) == b"x"


def raises(error: BaseException) -> Callable[..., Any]:
    def raising(*_: object) -> Any:
        raise error

    return raising


@pytest.mark.parametrize(
    "error", [ValueError("secret"), SystemExit("secret"), KeyError("secret"), RecursionError()]
)
def test_whatever_load_raises_is_one_messages_trouble(error: BaseException):
    """And shows nothing of the message."""
    body = type("Bad", (), {"load": raises(error), "dump": lambda self, value: b""})
    payload = definition_of(job_of(bytes, body)).payload
    with pytest.raises(DecodeError, match="take: Bad cannot read the body: ") as found:
        payload.load(b"secret")
    assert "secret" not in str(found.value)
    with pytest.raises(InvalidArguments, match="cannot read what it has written"):
        payload.dump((b"",), {})


@pytest.mark.parametrize("dump", [raises(ValueError("no")), lambda self, value: "text"])
def test_a_dump_that_fails_is_told_to_the_caller(dump: Any):
    """So is one that returns no bytes."""
    body = type("Bad", (), {"load": lambda self, data: data, "dump": dump})
    with pytest.raises(InvalidArguments, match="Bad"):
        job_of(bytes, body).message(b"")


def test_json_is_still_a_way_to_give_arguments():
    """For commands and the web API."""
    payload = definition_of(job_of(Box)).payload
    assert payload.load_json(b'{"data": "_w==", "sizes": [1]}') == ((Box(b"\xff", (1,)),), {})


def test_a_key_of_bytes():
    """Equal arguments have equal keys in any format."""

    @app.job(queue="q", body=MsgPack, name="unique", unique=Unique(key="data"))
    async def unique(data: bytes, n: int) -> None: ...

    key = definition_of(unique).exclusion.key  # type: ignore[union-attr]
    assert key is not None
    assert key.of({"data": RAW, "n": 1}) == key.of({"data": RAW, "n": 2})


def test_a_json_job_is_what_it_was():
    """Its content type and its body."""
    message = job_of(int, None).message(5)
    assert (message.body, message.content_type) == (b"5", JSON)


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip

anything = job_of(Any)


@given(values)
def test_any_value_of_msgpack_comes_back(value: Any):
    """Whatever is in it."""
    assert repr(back(anything, value)) == repr(value)


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(body: bytes):
    """With one kind of error."""
    for job in (anything, job_of_box):
        with suppress(DecodeError):
            definition_of(job).payload.load(body)


job_of_box = job_of(Box)


def test_what_is_read_once_is_sent():
    """As a list, without a comparison."""
    assert job_of(Iterable[int]).message(iter([1, 2])).body == b"\x92\x01\x02"
