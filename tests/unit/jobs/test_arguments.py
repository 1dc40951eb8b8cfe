"""Arguments to JSON and back: what is sent is what the handler gets, and what does not fit is told
before anything is sent."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, SecretBytes, SecretStr

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError, DecodeError, InvalidArguments


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Box:
    width: int
    label: str = "box"
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Thin:
    width: int


@attrs.define
class Crate:
    width: int
    _secret: str = "s"
    colours: list[Colour] = attrs.field(factory=list)
    area: int = attrs.field(init=False, default=0)


@attrs.frozen(slots=True)
class Nested:
    crate: Annotated[Colour, "metadata"]


class Image(BaseModel):
    path: Path
    taken: datetime | None = None


class Aliased(BaseModel):
    file_name: str = Field(alias="fileName")


def payload_of(function):
    app = App("codec")
    app.job(queue="q", name="job")(function)
    return registry_of(app).find("job").payload


def called_with(function, args, kwargs):
    """The arguments as the handler sees them by name, with its defaults."""
    import inspect

    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def over_the_wire(function, *args, **kwargs):
    payload = payload_of(function)
    body = payload.dump(args, kwargs)
    return called_with(function, *payload.load(body))


VALUES = [
    (int, 2**70), (float, 0.1), (bool, True), (str, 'a"\n\x00\U0001f600'), (bytes, b"text"),
    (None, None), (list[int], [1, 2]), (dict[str, list[int]], {"a": [1]}), (set[int], {1, 2}),
    (tuple[int, str], (1, "a")), (frozenset[str], frozenset({"a"})), (int | None, None),
    (int | str, "7"), (Literal["a", "b"], "b"), (Colour, Colour.RED), (Point, Point(1, 2)),
    (datetime, datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)), (timedelta, timedelta(days=1)),
    (Decimal, Decimal("1.10")), (UUID, UUID(int=7)), (Path, Path("/a/b")),
    (Box, Box(1, "l", ["t"])), (Thin, Thin(3)), (Image, Image(path=Path("a"))),
    (Aliased, Aliased(fileName="x")), (list[Box], [Box(1)]), (Any, {"free": [1, None]}),
    (Crate, Crate(1, "x", [Colour.RED])), (Nested, Nested(Colour.RED)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value"), VALUES, ids=[str(v[0]) for v in VALUES])
def test_what_is_sent_is_what_the_handler_gets(annotation, value):
    """Alone in the body, and among others."""

    def single(x: annotation) -> None: ...

    def several(x: annotation, y: int = 5) -> None: ...

    assert over_the_wire(single, value) == {"x": value}
    assert over_the_wire(several, value, y=6) == {"x": value, "y": 6}
    assert type(over_the_wire(single, value)["x"]) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)  # fmt: skip
def test_any_json_comes_back_as_it_was(value):
    """Text with any characters, deep lists, numbers."""
    assert ANYTHING.load(ANYTHING.dump((value,), {})) == ((value,), {})


def anything(x: Any) -> None: ...


ANYTHING = payload_of(anything)


def test_one_parameter_is_the_whole_body():
    """So that a stranger can send a plain JSON value."""

    def job(count: int) -> None: ...

    assert payload_of(job).dump((3,), {}) == b"3"
    assert payload_of(job).dump((), {"count": 3}) == b"3"
    assert payload_of(job).load(b" 3 ") == ((3,), {})


def test_several_parameters_are_an_object_by_name():
    """Whether they were given by place or by name."""

    def job(a: int, b: str = "x", *, c: float = 1.5) -> None: ...

    payload = payload_of(job)
    assert json.loads(payload.dump((1, "y"), {"c": 2})) == {"a": 1, "b": "y", "c": 2.0}
    assert json.loads(payload.dump((), {"c": 2, "a": 1})) == {"a": 1, "c": 2.0}


def test_no_parameters_are_an_empty_object():
    """A stranger may leave the body out."""

    def job() -> None: ...

    payload = payload_of(job)
    assert payload.dump((), {}) == b"{}"
    for body in (b"", b"{}", b" {} ", b"null"):
        assert payload.load(body) == ((), {})
    with pytest.raises(DecodeError, match="no arguments"):
        payload.load(b'{"a": 1}')


def test_a_default_is_the_handlers_at_the_time_it_runs():
    """What was not given does not travel: a release with another default applies it."""

    def job(a: int, b: int = 7) -> None: ...

    body = payload_of(job).dump((1,), {})
    assert json.loads(body) == {"a": 1}
    assert called_with(job, *payload_of(job).load(body)) == {"a": 1, "b": 7}


def test_a_single_parameter_that_is_not_given_sends_its_default():
    """The body is its value, so that there must be one."""

    def job(a: int = 7) -> None: ...

    assert payload_of(job).dump((), {}) == b"7"


def test_keyword_only_parameters_come_back_as_keywords():
    """Alone and with others."""

    def single(*, a: int) -> None: ...

    def several(a: int, *, b: int) -> None: ...

    assert over_the_wire(single, a=1) == {"a": 1}
    assert over_the_wire(several, 1, b=2) == {"a": 1, "b": 2}


def test_positional_only_parameters_come_back_in_their_places():
    """A gap is filled by the handler's default: nothing moves up."""

    def job(a: int = 1, b: int = 2, /, c: int = 3) -> None: ...

    assert over_the_wire(job, 5, 6, c=7) == {"a": 5, "b": 6, "c": 7}
    assert over_the_wire(job, 5) == {"a": 5, "b": 2, "c": 3}
    payload = payload_of(job)
    assert called_with(job, *payload.load(b'{"b": 6}')) == {"a": 1, "b": 6, "c": 3}


def test_parameters_may_have_any_name():
    """Those of pydantic, of dicts and of our own code among them."""

    def job(self: int, body: int, items: int, model_config: int, __x: int, cls: int) -> None: ...

    names = ["self", "body", "items", "model_config", "__x", "cls"]
    sent = dict(zip(names, range(6), strict=True))
    assert over_the_wire(job, **sent) == sent


def test_aliases_are_the_names_on_the_wire():
    """A model's own, as its JSON Schema says."""

    def job(x: Aliased) -> None: ...

    assert payload_of(job).dump((Aliased(fileName="a"),), {}) == b'{"fileName":"a"}'


def test_the_fields_of_an_attrs_class_go_by_the_names_of_its_init():
    """A private field without its underscore; what is not in `__init__` does not travel."""

    def job(x: Crate) -> None: ...

    payload = payload_of(job)
    assert json.loads(payload.dump((Crate(1, "x", [Colour.RED]),), {})) == {
        "width": 1, "secret": "x", "colours": ["red"]
    }  # fmt: skip
    assert payload.load(b'{"width": 2}') == ((Crate(2),), {})


@pytest.mark.parametrize("body", [b"{}", b'{"width": "x"}', b'{"width": 1, "area": 3}', b"3"])
def test_what_does_not_fit_an_attrs_class_is_refused(body):
    """Missing, wrong, and unknown fields."""

    def job(x: Crate) -> None: ...

    with pytest.raises(DecodeError):
        payload_of(job).load(body)


def test_annotated_validators_run_on_both_sides():
    """Before anything is sent, and before the handler runs."""

    def job(x: Annotated[str, AfterValidator(str.strip), Field(max_length=3)]) -> None: ...

    payload = payload_of(job)
    assert payload.dump((" a ",), {}) == b'"a"'
    with pytest.raises(InvalidArguments, match="x: .*at most 3"):
        payload.dump(("abcd",), {})
    with pytest.raises(DecodeError, match="x: .*at most 3"):
        payload.load(b'"abcd"')


@pytest.mark.parametrize(
    ("args", "kwargs", "hint"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional"),
        ((1,), {"c": 3}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
        (("x",), {}, "a: .*integer"),
        ((1, None), {}, "b: .*string"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(args, kwargs, hint):
    """The error says which job and which parameter."""

    def job(a: int, b: str = "") -> None: ...

    with pytest.raises(InvalidArguments, match=hint) as caught:
        payload_of(job).dump(args, kwargs)
    assert caught.value.job == "job"
    assert str(caught.value).startswith("job: ")


BODIES = [b"", b"{", b"nope", b"[1]", b'"x"', b"null", b"\xff", b'{"a": 1, "c": 2}', b'{"b": ""}',
          b'{"a": 1}{"a": 1}', b'{"a": 1e400}', b"[" * 100_000, b'{"a": "\\ud800"}']  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_call_of_the_job_are_refused(body):
    """Not JSON, not an object, unknown keys, missing ones, bombs."""

    def job(a: int, b: str = "") -> None: ...

    with pytest.raises(DecodeError):
        payload_of(job).load(body)


@given(st.binary(max_size=60))
def test_no_bytes_at_all_raise_anything_but_a_decode_error(body):
    """Strangers write bodies."""
    try:
        ANYTHING.load(body)
    except DecodeError:
        return
    json.loads(body)


def test_no_refusal_shows_a_value():
    """Arguments may be secrets; error messages go to logs and dead letters."""

    def single(x: int) -> None: ...

    def several(x: int, y: Image) -> None: ...

    for function, body in ((single, b'"hunter2"'), (several, b'{"x":"hunter2","y":["hunter2"]}')):
        with pytest.raises(DecodeError) as refused:
            payload_of(function).load(body)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(InvalidArguments) as invalid:
        payload_of(single).dump(("hunter2",), {})
    assert "hunter2" not in str(invalid.value)


def test_a_refusal_of_many_things_says_how_many_more_there_are():
    """And not all of them: a body of a megabyte can have a million mistakes."""

    def job(x: list[int]) -> None: ...

    with pytest.raises(DecodeError, match=r"x\.0: .*x\.7: .*; and 92 more$"):
        payload_of(job).load(json.dumps(["a"] * 100).encode())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_float_that_json_lacks_is_refused_before_it_is_sent(value):
    """It would become `null`, and fail in the worker."""

    def job(x: float) -> None: ...

    with pytest.raises(InvalidArguments):
        payload_of(job).dump((value,), {})


def test_an_object_that_was_changed_into_something_wrong_is_refused_before_it_is_sent():
    """Pydantic looks at an object once, when it is made; the worker would refuse what is in it."""

    def model(x: Image) -> None: ...

    def plain(x: Box) -> None: ...

    def made(x: Crate) -> None: ...

    image, box, crate = Image(path=Path("a")), Box(1), Crate(1)
    image.taken, box.width, crate.width = "yesterday", "wide", "wide"
    for function, value in ((model, image), (plain, box), (made, crate)):
        with pytest.raises(InvalidArguments, match="x"):
            payload_of(function).dump((value,), {})


@pytest.mark.parametrize("kind", [SecretStr, SecretBytes])
def test_a_secret_never_arrives_as_asterisks(kind):
    """Pydantic writes a SecretStr as `**********`: the handler would get that, and nobody would
    know. Refused, with what to do."""

    def job(x: kind, y: int = 1) -> None: ...

    with pytest.raises((ConfigurationError, InvalidArguments), match="secret"):
        payload_of(job).dump((kind("hunter2" if kind is SecretStr else b"hunter2"),), {})


def test_bytes_in_what_is_not_annotated_are_refused_before_they_are_sent():
    """The annotation says that a text is bytes; `Any` does not."""
    for value in (b"\xff", b"text", {"a": b"\xff"}):
        with pytest.raises(InvalidArguments, match="JSON|bytes would arrive as str"):
            ANYTHING.dump((value,), {})


def test_what_refers_to_itself_is_refused_before_it_is_sent():
    """And does not take the interpreter down."""
    loop = []
    loop.append(loop)
    with pytest.raises(InvalidArguments):
        ANYTHING.dump((loop,), {})


def test_an_object_that_nobody_can_write_is_refused_before_it_is_sent():
    """`Any` takes everything; JSON does not."""
    with pytest.raises(InvalidArguments, match="cannot become JSON"):
        ANYTHING.dump((object(),), {})


def test_the_json_schema_is_what_a_stranger_has_to_send():
    """For documentation and other languages."""

    def several(a: int, b: str = "x") -> None: ...

    def single(a: int) -> None: ...

    def nothing() -> None: ...

    schema = payload_of(several).json_schema()
    assert schema["required"] == ["a"]
    assert schema["additionalProperties"] is False
    assert payload_of(single).json_schema() == {"type": "integer"}
    assert payload_of(nothing).json_schema() == {"type": "object", "additionalProperties": False}
