"""Where something is wrong in a payload is told without the keys of dicts, which are data."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import pytest
from pydantic import AliasPath, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from amqpjobs import App
from amqpjobs.client.client import registry_of
from amqpjobs.errors import DecodeError, InvalidArguments, InvalidResult
from amqpjobs.jobs.message.reply import read_value
from amqpjobs.jobs.results import load_result
from amqpjobs.jobs.roundtrip.findings import findings

ADA = "ada@example.org"


class Item(BaseModel):
    count: int
    by_person: dict[str, int] = {}


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    count: int = 0


class Tree(BaseModel):
    value: int = 0
    below: dict[str, "Tree"] = {}


class Cat(BaseModel):
    kind: Literal["cat"]
    names: dict[str, int] = {}


class Dog(BaseModel):
    kind: Literal["dog"]


class Aliased(BaseModel):
    file_name: int = Field(alias="fileName")
    deep: int = Field(default=0, validation_alias=AliasPath("a", 0))


@dataclass
class Box:
    sizes: dict[str, int]


class Point(NamedTuple):
    x: int
    y: int


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]


PET = Annotated[Cat | Dog, Field(discriminator="kind")]

CASES = [
    (dict[str, int], {ADA: "x"}, "[key]"),
    (dict[str, dict[str, int]], {ADA: {ADA: "x"}}, "[key].[key]"),
    (dict[int, int], {ADA: 1}, "[key].[key]"),
    (dict[int, int], {"4915112345678": "x"}, "[key]"),
    (list[dict[str, int]], [{}, {ADA: "x"}], "1.[key]"),
    (dict[str, list[int]], {ADA: [1, "x"]}, "[key].1"),
    (dict[str, Item], {ADA: {"count": "x"}}, "[key].count"),
    (Item, {"count": 1, "by_person": {ADA: "x"}}, "by_person.[key]"),
    (list[Item], [{"count": "x"}], "0.count"),
    (Item | None, {"count": "x"}, "count"),
    (Tree, {"below": {ADA: {"below": {ADA: {"value": "x"}}}}}, "below.[key].below.[key].value"),
    (PET, {"kind": "cat", "names": {ADA: "x"}}, "cat.names.[key]"),
    (PET, {"kind": ADA}, ""),
    (Strict, {"cuont": 1}, "cuont"),
    (Strict, {ADA: 1}, "[key]"),
    (dict[str, Strict], {ADA: {"cuont": 1}}, "[key].cuont"),
    (Aliased, {"fileName": "x"}, "fileName"),
    (Aliased, {"fileName": 1, "a": ["x"]}, "a.0"),
    (Box, {"sizes": {ADA: "x"}}, "sizes.[key]"),
    (tuple[int, dict[str, int]], [1, {ADA: "x"}], "1.[key]"),
    (Point, [1, "x"], None),
    (Open, {ADA: "x"}, "[key]"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "where"), CASES, ids=range(len(CASES)))
def test_a_place_has_the_names_of_fields_and_no_keys(annotation, value, where):
    """And its shape still says where to look."""
    adapter = TypeAdapter(annotation)
    with pytest.raises(ValidationError) as caught:
        adapter.validate_json(__import__("json").dumps(value))
    [(place, problem)] = findings(caught.value, adapter)
    assert ADA not in place + problem
    assert "49151" not in place
    assert where is None or place == where


def test_a_union_names_its_member_and_no_key():
    """Each of its members has a finding."""
    adapter = TypeAdapter(int | dict[str, int])
    with pytest.raises(ValidationError) as caught:
        adapter.validate_python({ADA: "x"})
    assert [place for place, _ in findings(caught.value, adapter)] == [
        "int", "dict[str,int].[key]"
    ]  # fmt: skip


def test_without_a_schema_no_name_is_shown():
    """What is not known may be anything."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, int]).validate_python({ADA: "x"})
    assert findings(caught.value, None)[0][0] == "[key]"


def test_no_error_of_ours_has_the_key():
    """Arguments on both sides, results on both sides, replies of others; nor does a traceback,
    into which pydantic writes what it was given."""
    import traceback

    app = App("a")

    @app.job(queue="q", name="job")
    async def job(x: dict[str, int]) -> dict[str, int]: ...

    @app.job(queue="q", name="two")
    async def two(x: dict[str, int], y: int = 1) -> None: ...

    body = b'{"%s": "x"}' % ADA.encode()
    tries: list[tuple[Any, Any]] = [
        (InvalidArguments, lambda: registry_of(app).find("job").payload.dump(({ADA: "x"},), {})),
        (DecodeError, lambda: registry_of(app).find("job").payload.load(body)),
        (DecodeError, lambda: registry_of(app).find("two").payload.load(b'{"x": ' + body + b"}")),
        (InvalidResult, lambda: load_result(registry_of(app).find("job"), body)),
        (InvalidResult, lambda: read_value("q", body, None, dict[str, int])),
    ]
    for kind, attempt in tries:
        with pytest.raises(kind, match=r"\[key\]") as caught:
            attempt()
        shown = "".join(traceback.format_exception(caught.value))
        assert "Input should be a valid integer" in str(caught.value)
        assert "ada@" not in str(caught.value)
        assert "input_value" not in shown
        assert shown.count("ada@") == 0
