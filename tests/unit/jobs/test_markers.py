"""Markers of other frameworks: nothing resolves them here, so callers would choose the values."""

import inspect
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import pytest
from annotated_types import Gt
from fast_depends.library import CustomField
from fastapi import Body, Cookie, Depends, File, Form, Header, Path, Query, Security
from pydantic import BaseModel, Field
from typing_extensions import Doc, TypeAliasType, TypedDict

from amqpjobs import INJECTED, App
from amqpjobs import Depends as OurDepends
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.markers import problem_with


def current_user() -> str:
    return "ada"


class TaskiqDepends:
    """As taskiq's, which need not be installed to be told apart."""

    __module__ = "taskiq_dependencies.dependency"


class Provide:
    """As dependency_injector's."""

    __module__ = "dependency_injector.wiring"


class ContextField(CustomField):
    """As FastStream's Context, which is made from FastDepends."""

    __module__ = "faststream._internal.context"


class FromComponent:
    """As dishka's."""

    __module__ = "dishka.entities.component"


class Injected:
    """Of a framework that nobody has heard of."""

    __module__ = "unheard_of"


Alias = TypeAliasType("Alias", Annotated[str, Depends(current_user)])


def declared(default: Any = ..., annotation: Any = str) -> App:
    app = App("a")

    async def job(user: Any) -> None: ...

    job.__annotations__["user"] = annotation
    if default is not ...:
        job.__defaults__ = (default,)
    app.job(queue="q")(job)
    app.check()
    return app


@pytest.mark.parametrize(
    "marker",
    [
        Depends(current_user), Security(current_user), Query(), Path(), Header(), Cookie(), Body(),
        Form(), File(), TaskiqDepends(), Provide(), ContextField(), FromComponent(), Injected(),
    ],
    ids=lambda marker: type(marker).__name__,
)  # fmt: skip
@pytest.mark.parametrize("place", ["default", "annotated", "in a union"])
def test_a_marker_of_another_framework_is_refused(marker, place):
    """At the declaration, naming the parameter, the marker, and FastDepends."""
    annotation = {
        "default": str,
        "annotated": Annotated[str, marker],
        "in a union": Annotated[str, marker] | None,
    }[place]
    default = marker if place == "default" else ...
    with pytest.raises(ConfigurationError, match=r"'user'.*from fast_depends import Depends"):
        declared(default, annotation)


def test_a_marker_behind_a_type_alias_is_refused():
    """FastAPI looks through one, too."""
    with pytest.raises(ConfigurationError, match="Depends of fastapi"):
        declared(annotation=Alias)


def test_a_marker_in_an_annotation_that_is_a_string_is_refused():
    """As of ``from __future__ import annotations``."""
    with pytest.raises(ConfigurationError, match="Depends of fastapi"):
        declared(annotation="Annotated[str, Depends(current_user)]")


def test_a_dependency_that_fast_depends_does_not_see_is_refused():
    """It would be an argument that callers choose."""
    with pytest.raises(ConfigurationError, match="FastDepends does not see"):
        declared(annotation=Annotated[str, OurDepends(current_user)] | None)


class Security2(BaseModel):
    """A share, in a bank."""


@dataclass
class Depends2:
    """A user's own class may be called what it likes."""

    __qualname__ = __name__ = "Depends"
    on: str = ""


Depends2.__name__ = "Depends"


@pytest.mark.parametrize(
    ("default", "annotation"),
    [
        (..., Annotated[int, Field(gt=0, description="how many")]),
        (5, Annotated[int, Gt(0), Doc("how many"), "a note"]),
        (Depends2("x"), Depends2),
        (Security2(), Security2),
        ("a", Literal["a", "b"]),
        (INJECTED, Annotated[str, OurDepends(current_user)]),
        (OurDepends(current_user), str),
    ],
    ids=["Field", "annotated-types", "own dataclass", "own model", "literal",
         "FastDepends", "FastDepends as default"],
)  # fmt: skip
def test_what_describes_an_argument_is_no_marker(default, annotation):
    """Pydantic's own, annotated-types, documentation, and values of the user's classes."""
    declared(default, annotation)


def test_a_field_of_ones_own_for_fast_depends_is_injected():
    """Not an argument."""

    class Tenant(CustomField):
        def use(self, /, **kwargs: Any) -> dict[str, Any]:
            return {**super().use(**kwargs), self.param_name: "acme"}

    app = declared(annotation=Annotated[str, Tenant()])
    assert not app.jobs["job"].payload.positional


class Readable(Protocol):
    def read(self) -> str: ...


class Options(TypedDict):
    fast: bool


@pytest.mark.parametrize("hint", [Any, object, Readable, Options, dict[str, Any], None])
def test_a_default_may_have_any_annotation(hint):
    """Some of these are classes for which `isinstance` raises."""

    def job(options: hint = None) -> None: ...

    assert problem_with(inspect.signature(job).parameters["options"], hint) is None
