"""What would not come back equal is refused before it is sent; what does, never is."""

import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag, StrEnum
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import Path, PurePath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import attrs
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    TypeAdapter,
    computed_field,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import InvalidArguments, InvalidResult
from amqpjobs.jobs.results import dump_result, load_result
from amqpjobs.jobs.roundtrip.roundtrip import RoundTrip


class Event(BaseModel):
    id: int


class Refund(Event):
    amount: int


class Marked(Event):
    """A subclass without fields: whoever asks for its class gets another answer."""


@dataclass
class Base:
    id: int


@dataclass
class Derived(Base):
    amount: int = 0


@attrs.define
class Crate:
    id: int


@attrs.define
class Heavy(Crate):
    weight: int = 0


class Shape(TypedDict):
    id: int


class Square(Shape):
    width: int


class Open(TypedDict):
    __pydantic_config__ = ConfigDict(extra="ignore")
    id: int


class Node(BaseModel):
    value: float | None = None
    children: list["Node"] = []
    event: Event | None = None


class Order(BaseModel):
    events: list[Event] = []
    by_name: dict[str, Event] = {}
    box: Base | None = None
    note: float | None = None
    extra: Any = None


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    RED = "red"


class Number(IntEnum):
    ONE = 1


class Flag(IntFlag):
    A = 1
    B = 2


class Point(NamedTuple):
    x: int
    y: float | None = None


T = TypeVar("T")


class Envelope(BaseModel, Generic[T]):
    value: T


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: int


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = "Rex"


class Ambiguous(BaseModel):
    """The fields of an Event, under another name."""

    id: int


class Checked(BaseModel):
    low: int
    high: int

    @model_validator(mode="after")
    def in_order(self) -> "Checked":
        assert self.low <= self.high
        return self

    @field_validator("low")
    @classmethod
    def not_negative(cls, value: int) -> int:
        assert value >= 0
        return value

    @computed_field
    @property
    def span(self) -> int:
        return self.high - self.low


class Growing(BaseModel):
    total: int

    @field_validator("total")
    @classmethod
    def grow(cls, value: int) -> int:
        return value + 1


class Renamed(BaseModel):
    count: int = Field(default=0, serialization_alias="total")


class Private(BaseModel):
    id: int
    cache: str = Field(default="", exclude=True)
    _seen: int = PrivateAttr(default=0)


class Bare:
    """A type of the user's own, without `__eq__`."""

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda v: v if isinstance(v, cls) else cls(v),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda v: v.text),
        )


class Vague(Bare):
    """As an array of numpy: it has an `__eq__`, whose answer has no truth."""

    def __eq__(self, other):
        class Answer:
            def __bool__(self):
                raise ValueError("ambiguous")

        return Answer()

    __hash__ = None


@dataclass(eq=False)
class Identity:
    id: int
    tags: list[str] = field(default_factory=list)


@pydantic.dataclasses.dataclass
class Validated:
    id: int
    price: float | None = None

    def __post_init__(self) -> None:
        self.id = int(self.id)


class Special(Event):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    ratio: float | None = None


class Rooted(RootModel[list[Event]]):
    pass


BERLIN = ZoneInfo("Europe/Berlin")

LOST = [
    (Event, Refund(id=1, amount=5), "x: Refund would arrive as Event"),
    (Event, Marked(id=1), "x: Marked would arrive as Event"),
    (Event | None, Refund(id=1, amount=5), "x: Refund"),
    (Event | str, Refund(id=1, amount=5), "x: Refund"),
    (list[Event], [Event(id=1), Refund(id=2, amount=5)], r"x\.1: Refund"),
    (tuple[Event, int], (Refund(id=2, amount=5), 1), r"x\.0: Refund"),
    (Sequence[Event], [Refund(id=2, amount=5)], r"x\.0: Refund"),
    (dict[str, Event], {"hunter2": Refund(id=2, amount=5)}, r"x\.\[key\]: Refund"),
    (dict[str, list[Event]], {"hunter2": [Refund(id=2, amount=5)]}, r"x\.\[key\]\.0: Refund"),
    (Order, Order(events=[Refund(id=2, amount=5)]), r"x\.events\.0: Refund"),
    (Order, Order(by_name={"hunter2": Refund(id=2, amount=5)}), r"x\.by_name\.\[key\]: Refund"),
    (Order, Order(box=Derived(1, 2)), r"x\.box: Derived would arrive as Base"),
    (Node, Node(children=[Node(event=Refund(id=1, amount=2))]), r"x\.children\.0\.event: Refund"),
    (Rooted, Rooted([Refund(id=1, amount=2)]), r"x.*: Refund"),
    (Envelope[Event], Envelope[Event](value=Refund(id=1, amount=2)), r"x\.value: Refund"),
    (Base, Derived(1, 2), "x: Derived would arrive as Base"),
    (Crate, Heavy(1, 2), "x: Heavy would arrive as Crate"),
    (Shape, Square(id=1, width=2), r"x\.width: Extra"),
    (list[Shape], [Square(id=1, width=2)], r"x\.0\.width: Extra"),
    (Shape | None, Square(id=1, width=2), r"x\.width: Extra"),
    (float | None, float("nan"), "x: NaN and infinity would arrive as None"),
    (float | None, float("inf"), "x: NaN"),
    (list[float | None], [1.0, float("nan")], r"x\.1: NaN"),
    (dict[str, float | None], {"hunter2": float("nan")}, r"x\.\[key\]: NaN"),
    (float | str | None, float("nan"), "x: NaN"),
    (Order, Order(note=float("nan")), r"x\.note: NaN"),
    (list[Order], [Order(), Order(note=float("nan"))], r"x\.1\.note: NaN"),
    (Validated, Validated(1, float("inf")), r"x\.price: NaN"),
    (Point, Point(1, float("nan")), r"x\.1: NaN"),
    (Any, float("nan"), "x: NaN"),
    (Any, {"a": [float("nan")]}, r"x\.\[key\]\.0: NaN"),
    (Any, (1, 2), "x: tuple would arrive as list: annotate it with tuple"),
    (object, {1: "hunter2"}, r"x\.\[key\]: a key of type int"),
    (Any, {"a": datetime.now(UTC)}, r"x\.\[key\]: datetime would arrive as str"),
    (Any, Refund(id=1, amount=2), "x: Refund would arrive as dict"),
    (Any, Derived(1, 2), "x: Derived would arrive as dict"),
    (Any, {1, 2}, "x: set would arrive as list"),
    (Any, b"text", "x: bytes would arrive as str"),
    (Any, Decimal("1.5"), "x: Decimal would arrive as str"),
    (Any, Colour.RED, "x: Colour would arrive as str"),
    (dict, {1: 2}, r"x\.\[key\]: a key of type int"),
    (dict[str, Any], {"a": (1,)}, r"x\.\[key\]: tuple"),
    (list, [(1,)], r"x\.0: tuple"),
    (Order, Order(extra=(1,)), r"x\.extra: tuple"),
    (Loose, Loose(id=1, more=(1,)), r"x.*\[key\]: tuple"),
    (Event | Ambiguous, Ambiguous(id=1), "x: Ambiguous would arrive as Event"),
    (str | UUID, str(UUID(int=1)), "x: str would arrive as UUID"),
    (Growing, Growing(total=1), r"x\.total: int would not come back equal"),
    (list[Growing], [Growing(total=1)], r"x\.0\.total: int"),
    (Annotated[int, AfterValidator(lambda v: v + 1)], 1, "x: int would not come back equal"),
    (Renamed, Renamed(count=3), r"x\.count: int would not come back equal"),
    (
        Annotated[float, PlainSerializer(lambda v: round(v, 1))], 0.123,
        "x: float would not come back equal",
    ),
    (re.Pattern, re.compile("a", re.IGNORECASE), "x: Pattern would not come back equal"),
    (datetime, datetime(1900, 1, 1, tzinfo=timezone(timedelta(seconds=1172))), "x: datetime"),
]  # fmt: skip

KEPT = [
    (Event, Event(id=1)), (list[Event], [Event(id=1)]), (Refund, Refund(id=1, amount=2)),
    (Event | Refund, Refund(id=1, amount=2)), (Event | Refund, Event(id=1)),
    (Annotated[Cat | Dog, Field(discriminator="kind")], Dog()), (list[Cat | Dog], [Cat(), Dog()]),
    (Base, Base(1)), (Derived | Base, Derived(1, 2)), (Crate, Crate(1)), (Shape, {"id": 1}),
    (Square, {"id": 1, "width": 2}), (Open, {"id": 1, "width": 2}), (Node, Node(children=[Node()])),
    (Order, Order(events=[Event(id=1)], by_name={"a": Event(id=2)}, box=Base(1), note=1.0)),
    (Order, Order(extra={"a": [1, None, "b"]})), (Rooted, Rooted([Event(id=1)])),
    (Envelope, Envelope[int](value=1)), (Envelope[int], Envelope[int](value=1)),
    (Loose, Loose(id=1, more=[1])), (Checked, Checked(low=1, high=2)),
    (list[Checked], [Checked(low=1, high=2)]), (Bare, Bare("a")), (Vague, Vague("a")),
    (list[Vague], [Vague("a")]), (Identity, Identity(1, ["a"])), (list[Identity], [Identity(1)]),
    (Validated, Validated(1)), (Special, Special(id=1, ratio=float("nan"))), (float | None, None),
    (float | None, 1.5), (float, 3), (int | float, 3), (int | float, 3.5), (bool | int, True),
    (int | str, "5"), (str | int, 5), (str | bool | None, None), (tuple[int, ...], [1, 2]),
    (list[int], (1, 2)), (UUID, str(UUID(int=1))), (datetime, "2026-01-01T00:00:00Z"),
    (datetime, datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)),
    (datetime, datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)),
    (datetime | None, datetime(2026, 7, 1, tzinfo=BERLIN)), (datetime, datetime(2026, 1, 1)),
    (time, time(1, 2, tzinfo=UTC)), (date, date(2026, 1, 1)),
    (timedelta, timedelta(microseconds=1)),
    (date | datetime, date(2026, 1, 1)), (date | datetime, datetime(2026, 1, 1, 5)),
    (Decimal, Decimal("1.10")), (Decimal | None, Decimal("1.10")), (Path, Path("/a")),
    (PurePath, PurePath("/a")), (IPv4Address, IPv4Address("10.0.0.1")),
    (AnyUrl, AnyUrl("http://a.b/")), (Colour, Colour.RED), (Colour | None, Colour.RED),
    (Word, Word.RED), (str, Word.RED), (Any, Word.RED), (Any, Number.ONE), (Number, Number.ONE),
    (Literal["a", 1], 1), (Point, Point(1)),
    (Point, Point(1, 2.0)), (Flag, Flag.A),
    (set[int], {1}), (set[Colour], {Colour.RED}), (frozenset[str], frozenset("ab")),
    (AbstractSet[int], {1}), (set[float | None], {1.0, None}), (bytes, b"a"), (complex, 1 + 2j),
    (Sequence[int], (1, 2)), (Sequence[str], ["a"]), (Sequence[Event], (Event(id=1),)),
    (Sequence[Any], ("a", 1)), (Mapping[str, int], {"a": 1}), (Iterable[int], [1]),
    (dict[int, str], {1: "a"}), (dict[Colour, int], {Colour.RED: 1}),
    (dict[UUID, int], {uuid4(): 1}),
    (dict[date, int], {date(2026, 1, 1): 1}), (dict[str, Any], {"a": [1, {"b": None}]}),
    (dict, {"a": 1}), (list, [1]), (tuple, (1, "a")),
    (JsonValue, {"a": [1, 2.5, None]}), (Any, None),
    (Any, [1, "a", True, None, 1.5, {"b": {}}]), (deque[int], deque([1], maxlen=3)),
    (OrderedDict[str, int], OrderedDict(a=1)),
    (defaultdict[str, list[int]], defaultdict(list, a=[1])),
    (Counter[str], Counter("aab")), (Fraction, Fraction(1, 3)),
    (Annotated[str, AfterValidator(str.strip)], " a "),
    (Annotated[int, Field(gt=0)], 1), (re.Pattern, re.compile("a")),
]  # fmt: skip


def payload_of(annotation):
    app = App("roundtrip")

    def job(x: annotation) -> None: ...

    app.job(queue="q", name="job")(job)
    return registry_of(app).find("job").payload


def names(table):
    return [f"{number} {row[0]}"[:60] for number, row in enumerate(table)]


@pytest.mark.parametrize(("annotation", "value", "words"), LOST, ids=names(LOST))
def test_what_would_arrive_as_another_value_is_refused(annotation, value, words):
    """The error names the parameter and the field, and shows neither values nor the keys of
    dicts."""
    payload = payload_of(annotation)
    with pytest.raises(InvalidArguments, match=words) as caught:
        payload.dump((value,), {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("annotation", "value"), KEPT, ids=names(KEPT))
def test_ordinary_values_are_never_refused(annotation, value):
    """Pydantic's coercions of what is given are the caller's wish."""
    payload = payload_of(annotation)
    payload.load(payload.dump((value,), {}))


def test_what_its_author_keeps_out_of_the_json_is_not_missed():
    """Private attributes, and fields with `exclude=True`."""
    value = Private(id=1, cache="much")
    value._seen = 5
    payload_of(Private).dump((value,), {})


def test_the_field_is_named_among_several_parameters():
    """By the parameter that it is in."""
    app = App("several")

    def job(a: int, event: Event, note: float | None = None) -> None: ...

    app.job(queue="q", name="job")(job)
    payload = registry_of(app).find("job").payload
    with pytest.raises(InvalidArguments, match="^job: event: Refund would arrive as Event"):
        payload.dump((1, Refund(id=1, amount=2)), {})
    with pytest.raises(InvalidArguments, match="^job: note: NaN"):
        payload.dump((1, Event(id=1)), {"note": float("nan")})
    assert payload.dump((1, Event(id=1)), {}) == b'{"a":1,"event":{"id":1}}'


def result_of(annotation):
    async def job() -> None: ...

    job.__annotations__["return"] = annotation
    app = App("a")
    app.job(queue="q")(job)
    return registry_of(app).find("job")


@pytest.mark.parametrize(("annotation", "value", "words"), LOST, ids=names(LOST))
def test_a_result_that_would_arrive_as_another_value_is_refused(annotation, value, words):
    """As arguments are."""
    with pytest.raises(InvalidResult, match=words.replace("x", "result", 1)) as caught:
        dump_result(result_of(annotation), value, 10_000)
    assert "hunter2" not in str(caught.value)


def test_a_result_without_an_annotation_is_what_json_makes_of_it():
    """Nothing was promised of it."""
    app = App("a")

    @app.job(queue="q", name="job")
    async def job(): ...

    definition = registry_of(app).find("job")
    data = dump_result(definition, {"at": date(2026, 1, 1), "pair": (1, 2)}, 1000)
    assert load_result(definition, data) == {"at": "2026-01-01", "pair": [1, 2]}


class Wide(TypedDict, total=False):
    a: int | None
    b: list[float | None]
    c: NotRequired[dict[str, Event]]


ANNOTATIONS = st.sampled_from([
    int, str, bool, float, float | None, int | str, int | float | str | None, date, datetime, time,
    timedelta, Decimal, UUID, Colour, Event, Event | None, Node, Order, Base, Point, Wide,
    Checked, Cat | Dog, Identity, list[Event], dict[str, Event], dict[int, list[str]],
    tuple[int, str], set[int], frozenset[str], list[dict[str, float | None]], JsonValue,
    Sequence[int], Mapping[str, int], Envelope[int], bytes,
])  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_whatever_came_from_json_can_be_sent_on(data):
    """A value that a worker has received is accepted as an argument of the next job: it has been
    through JSON already."""
    annotation = data.draw(ANNOTATIONS)
    value = data.draw(values_of(annotation))
    adapter = TypeAdapter(annotation)
    received = adapter.validate_json(adapter.dump_json(value, by_alias=True, round_trip=True))
    assert writer_of(annotation).write(received)


def writer_of(annotation):
    return RoundTrip(TypeAdapter(annotation))


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec="utf-8"), max_size=10)
EVENTS = st.builds(Event, id=st.integers())
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | FINITE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KNOWN = {
    float: FINITE, float | None: FINITE | st.none(), str: TEXT, int | str: st.integers() | TEXT,
    int | float | str | None: st.integers() | FINITE | TEXT | st.none(),
    datetime: st.datetimes(timezones=st.none() | st.timezones()).filter(
        lambda d: d.tzinfo is None or (d.year > 1975 and d.utcoffset().seconds % 60 == 0)
    ),
    time: st.times(), Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=3),
    bytes: TEXT.map(str.encode), Event: EVENTS, Event | None: EVENTS | st.none(),
    list[Event]: st.lists(EVENTS, max_size=3), dict[str, Event]: st.dictionaries(TEXT, EVENTS),
    Node: st.builds(Node, value=FINITE | st.none(), children=st.lists(st.builds(Node), max_size=2),
                    event=EVENTS | st.none()),
    Order: st.builds(Order, events=st.lists(EVENTS, max_size=2), note=FINITE | st.none(),
                     by_name=st.dictionaries(TEXT, EVENTS, max_size=2), extra=JSON_VALUES,
                     box=st.builds(Base, st.integers())),
    Base: st.builds(Base, st.integers()),
    Point: st.builds(Point, st.integers(), FINITE | st.none()),
    Wide: st.fixed_dictionaries({}, optional={
        "a": st.none() | st.integers(), "b": st.lists(FINITE | st.none(), max_size=3),
        "c": st.dictionaries(TEXT, EVENTS, max_size=2)}),
    Checked: st.integers(0, 9).map(lambda n: Checked(low=n, high=n + 1)),
    Cat | Dog: st.builds(Cat, lives=st.integers()) | st.builds(Dog, name=TEXT),
    Identity: st.builds(Identity, st.integers(), st.lists(TEXT, max_size=2)),
    dict[int, list[str]]: st.dictionaries(st.integers(), st.lists(TEXT, max_size=2)),
    tuple[int, str]: st.tuples(st.integers(), TEXT), frozenset[str]: st.frozensets(TEXT),
    list[dict[str, float | None]]: st.lists(st.dictionaries(TEXT, FINITE | st.none()), max_size=2),
    JsonValue: JSON_VALUES, Sequence[int]: st.lists(st.integers()) | st.tuples(st.integers()),
    Mapping[str, int]: st.dictionaries(TEXT, st.integers()),
    Envelope[int]: st.builds(Envelope[int], value=st.integers()),
}  # fmt: skip


def values_of(annotation):
    return KNOWN[annotation] if annotation in KNOWN else st.from_type(annotation)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_whatever_fits_its_annotation_can_be_sent(data):
    """Values as programs make them, not as JSON does."""
    annotation = data.draw(ANNOTATIONS)
    assert writer_of(annotation).write(data.draw(values_of(annotation)))
