"""What a handler returned, to JSON and back: what does not survive that is told."""

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from amqpjobs import App, Reject
from amqpjobs.client.client import registry_of
from amqpjobs.errors import InvalidResult
from amqpjobs.jobs.results import dump_result, load_result


class Size(BaseModel):
    width: int


@dataclass
class Box:
    width: int


def definition_of(annotation):
    async def job() -> None: ...

    job.__annotations__["return"] = annotation
    app = App("a")
    app.job(queue="q")(job)
    return registry_of(app).find("job")


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None), (int, 3), (Size, Size(width=1)), (Box, Box(1)), (list[Size], [Size(width=1)]),
        (Any, {"a": [1]}), (Size | Reject, Size(width=1)), (str | None, None),
    ],
)  # fmt: skip
def test_a_result_comes_back_as_it_was(annotation, value):
    """By the return annotation; a `Reject` among it is no result."""
    definition = definition_of(annotation)
    assert load_result(definition, dump_result(definition, value, 1000)) == value


def changed(value):
    value.width = "wide"
    return value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "hunter2"), (Any, object()), (Any, b"\xff"), (float, float("nan")),
        (Size, changed(Size(width=1))), (Box, changed(Box(1))), (SecretStr, SecretStr("hunter2")),
    ],
    ids=["other type", "no JSON", "no text", "nan", "changed model", "changed object", "secret"],
)  # fmt: skip
def test_a_result_that_would_not_come_back_is_told_where_it_is_made(annotation, value):
    """And its value is not shown. Never null for a number, nor asterisks for a secret."""
    with pytest.raises(InvalidResult) as caught:
        dump_result(definition_of(annotation), value, 1000)
    assert "hunter2" not in str(caught.value)
    assert "'job'" in str(caught.value)


def test_a_result_that_is_too_large_is_told():
    """With what to do."""
    with pytest.raises(InvalidResult, match="return where it is"):
        dump_result(definition_of(str), "x" * 100, 50)


@pytest.mark.parametrize("data", [b"", b"{", b'"hunter2"', b"\xff"])
def test_what_is_no_result_is_refused_without_showing_it(data):
    """Another release may have made it."""
    with pytest.raises(InvalidResult) as caught:
        load_result(definition_of(int), data)
    assert "hunter2" not in str(caught.value)
