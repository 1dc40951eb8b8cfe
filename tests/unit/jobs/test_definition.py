"""What can be a job, and what cannot: told when the module loads, naming the function."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import pytest
from pydantic import BaseModel

from amqpjobs import INJECTED, App, Context, Depends
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError

if TYPE_CHECKING:
    from decimal import Decimal


class Opaque:
    """Nothing that pydantic knows."""


def refused(function, match, **options):
    app = App("a")
    with pytest.raises(ConfigurationError, match=match) as caught:
        app.job(queue="q", **options)(function)
        app.check()
    assert function.__name__ in str(caught.value)
    return caught.value


def kind_of(function, **options):
    app = App("a")
    app.job(queue="q", **options)(function)
    return next(iter(app.jobs.values())).kind


async def coroutine(x: int) -> int:
    return x


def plain(x: int) -> int:
    return x


def test_where_a_handler_runs_follows_from_what_it_is():
    """On the event loop, in a thread, or in a process of its own."""
    assert kind_of(coroutine) == "async"
    assert kind_of(plain) == "thread"
    assert kind_of(plain, cpu=True) == "process"


def test_the_error_says_where_the_function_is():
    """A module may have many jobs."""

    async def resize(x) -> None: ...

    error = refused(resize, "'x' has no annotation")
    assert __file__ in str(error)
    assert str(resize.__code__.co_firstlineno) in str(error)


def test_a_generator_cannot_be_a_job():
    """Of neither kind."""

    def numbers(x: int):
        yield x

    async def more(x: int):
        yield x

    refused(numbers, "generator")
    refused(more, "generator")


def test_open_ended_parameters_cannot_travel():
    """They have no schema."""

    async def many(*numbers: int) -> None: ...

    async def named(**options: int) -> None: ...

    refused(many, "numbers")
    refused(named, "options")


def test_a_type_that_pydantic_does_not_know_is_refused():
    """With what to use in its place."""

    async def opaque(x: Opaque) -> None: ...

    refused(opaque, "cannot travel as JSON.*BaseModel")


def test_a_default_that_does_not_fit_or_cannot_be_json_is_refused():
    """It would fail at the first call that leaves it out."""

    async def wrong(x: int = "three") -> None: ...

    async def none(x: int = None) -> None: ...  # noqa: RUF013 - wrong on purpose

    async def unserialisable(x: object = object()) -> None: ...

    refused(wrong, "default of 'x'")
    refused(none, "default of 'x'")
    refused(unserialisable, "default of 'x'|cannot travel")


def test_a_name_that_only_type_checkers_see_is_refused_with_the_fix():
    """The worker needs it at run time."""

    async def price(x: Decimal) -> None: ...

    refused(price, "'Decimal' cannot be resolved at run time.*TYPE_CHECKING")


@pytest.mark.parametrize("annotation", ["Opaque.Missing", "not python", "int | 'no' | 3", "1 +"])
def test_an_annotation_that_cannot_be_evaluated_is_refused(annotation):
    """Whatever Python raises over it."""

    async def odd(x: int) -> None: ...

    odd.__annotations__["x"] = annotation
    refused(odd, "odd")


def test_a_name_that_is_defined_further_down_is_resolved_at_start():
    """The module need not be in the order of its types; `check` looks again."""
    app = App("a")

    async def early(x: Later) -> None: ...  # noqa: F821 - it comes later

    app.job(queue="q")(early)
    with pytest.raises(ConfigurationError, match="Later"):
        app.check()
    globals()["Later"] = int
    try:
        app.check()
        assert registry_of(app).find("early").payload.load(b"3") == ((3,), {})
    finally:
        del globals()["Later"]


@pytest.mark.parametrize(
    ("function", "options", "hint"),
    [
        (plain, {"timeout": 0}, "timeout"),
        (plain, {"timeout": -1}, "timeout"),
        (plain, {"memory_limit": 1000}, "memory_limit needs cpu=True"),
        (coroutine, {"cpu": True}, "plain `def`"),
        (coroutine, {"batch": 5}, r"batch is a Batch\(...\), .* not 5"),
    ],
)
def test_options_that_cannot_work_together_are_refused(function, options, hint):
    """When the module loads, not when the first job times out."""
    refused(function, hint, **options)


def test_a_name_that_amqp_cannot_carry_is_refused():
    """The `type` property holds 255 bytes."""
    app = App("a")
    with pytest.raises(ConfigurationError, match="255 bytes"):
        app.job(queue="q", name="ü" * 128)(coroutine)
    app.job(queue="q", name="x" * 255)(coroutine)


def context_of(function):
    app = App("a")
    app.job(queue="q", name="job")(function)
    app.check()
    return registry_of(app).find("job").takes_context


def test_the_context_is_taken_as_first_parameter_only():
    """Its place is fixed, so that types can leave it out."""

    async def first(ctx: Context, x: int) -> None: ...

    async def without(x: int) -> None: ...

    async def second(x: int, ctx: Context) -> None: ...

    async def twice(ctx: Context, other: Context) -> None: ...

    async def by_name(*, ctx: Context, x: int) -> None: ...

    assert context_of(first)
    assert not context_of(without)
    refused(second, "Context must be the first parameter")
    refused(twice, "Context must be the first parameter")
    refused(by_name, "Context must be the first parameter")


def test_a_decorated_function_is_known_as_the_one_it_wraps():
    """`functools.wraps` keeps name, annotations and signature."""

    def logged(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            return await function(*args, **kwargs)

        return wrapper

    app = App("a")
    app.job(queue="q")(logged(coroutine))
    assert registry_of(app).find("coroutine").payload.load(b"3") == ((3,), {})


def test_where_a_function_was_made_is_no_part_of_its_name():
    """Only its class is: a factory of apps may move."""

    class Album:
        class Page(BaseModel):
            @App("a").job(queue="q")
            async def print(self) -> None: ...

    assert Album.Page.print.name == "Album.Page.print"


def test_what_is_injected_needs_no_schema():
    """It does not travel: neither by annotation nor by default."""

    def get() -> Opaque:
        return Opaque()

    app = App("a")

    @app.job(queue="q")
    async def marked(x: int, thing: Annotated[Opaque, Depends(get)] = INJECTED) -> None: ...

    @app.job(queue="q")
    async def bare(x: int, thing=Depends(get)) -> None: ...

    globals()["get"] = get
    try:
        app.check()
        assert registry_of(app).find("marked").payload.dump((1,), {}) == b"1"
        assert registry_of(app).find("bare").payload.dump((1,), {}) == b"1"
    finally:
        del globals()["get"]


def test_a_class_that_was_not_finished_is_said_so():
    """A method in a class body that raised has no object to be rebuilt."""
    app = App("a")
    with pytest.raises(ZeroDivisionError):

        class Broken:
            @app.job(queue="q")
            async def call(self) -> None: ...

            _ = 1 / 0

    with pytest.raises(ConfigurationError, match="'Broken.call'"):
        app.check()


def test_a_class_that_cannot_be_rebuilt_is_refused_at_start():
    """It has no fields that anybody could know."""
    app = App("a")

    class Bare:
        @app.job(queue="q")
        async def call(self) -> None: ...

    with pytest.raises(ConfigurationError, match="'Bare.call'.*cannot travel"):
        app.check()


def test_a_method_without_self_is_refused():
    """There would be no object to send."""
    app = App("a")
    with pytest.raises(ConfigurationError, match="call"):

        @dataclass
        class Odd:
            @app.job(queue="q")
            async def call() -> None: ...

        app.check()
