"""Tracebacks for people: the program's own frames, and how many were left out."""

import asyncio
import json
import sys
import types
from typing import Any

import pydantic
import pytest

from amqpjobs.errors import RemoteError
from amqpjobs.telemetry.tracebacks import short_traceback, whole_traceback
from amqpjobs.worker import failures


def error_of(function: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:  # noqa: PT011 - any
        function()
    return caught.value


def through_asyncio() -> None:
    async def job() -> None:
        raise LookupError("no album")

    asyncio.run(job())


def test_frames_of_the_framework_are_cut_and_counted() -> None:
    """The code of the program stays, with its lines."""
    error = error_of(through_asyncio)
    whole, short = whole_traceback(error), short_traceback(error)
    assert "/asyncio/runners.py" in whole
    assert "/asyncio/" not in short
    assert 'raise LookupError("no album")' in short
    assert "LookupError: no album\n(" in short
    count = whole.count('  File "') - short.count('  File "')
    assert short.endswith(f"({count} framework frames not shown; --verbose shows all)\n")


def test_a_traceback_without_any_is_as_python_prints_it() -> None:
    """To the letter."""
    error = error_of(lambda: json.loads("{"))
    assert short_traceback(error) == whole_traceback(error)


def test_causes_and_groups_are_cut_as_well() -> None:
    """Each part by itself."""

    def job() -> None:
        try:
            through_asyncio()
        except LookupError as error:
            raise ExceptionGroup("both", [error, error_of(through_asyncio)]) from error  # type: ignore[list-item]

    short = short_traceback(error_of(job))
    assert "/asyncio/" not in short
    assert short.count("LookupError: no album") == 3
    assert "direct cause" in short
    assert "both (2 sub-exceptions)" in short


def test_an_error_inside_of_the_framework_keeps_its_place() -> None:
    """A traceback without any frame would help nobody."""
    code = compile("def inner():\n    raise ValueError('x')\ninner()", failures.__file__, "exec")

    def job() -> None:
        try:
            exec(code, {})
        except ValueError as error:
            error.__traceback__ = error.__traceback__.tb_next  # type: ignore[union-attr]
            raise ValueError("outer") from error

    short = short_traceback(error_of(job))
    assert short.count(failures.__file__) == 1
    assert ", in inner\n" in short
    assert "(1 framework frame not shown; --verbose shows all)" in short


def test_what_a_job_process_raised_has_no_frames_of_the_worker() -> None:
    """Only what was raised in it."""
    inner = error_of(through_asyncio)
    text = whole_traceback(inner)

    def remote() -> None:
        raise RemoteError("x", exception="LookupError", kinds=(), frames=(), traceback=text)

    assert short_traceback(error_of(remote)) == short_traceback(inner)


def test_pydantic_and_uvloop_are_framework() -> None:
    """What a model raises is seen where it is made."""

    class Order(pydantic.BaseModel):
        number: int

    def job() -> None:
        Order(number="x")  # type: ignore[arg-type]

    short = short_traceback(error_of(job))
    assert "/pydantic/" not in short
    assert 'Order(number="x")' in short


def test_the_demo_is_an_app_like_others() -> None:
    """Its jobs are what the person looks at."""
    name = failures.__file__.replace("worker/failures.py", "demo/album.py")
    code = compile("raise ValueError('x')", name, "exec")
    error = error_of(lambda: types.FunctionType(code, {})())
    assert short_traceback(error) == whole_traceback(error)
    assert sys.exc_info() == (None, None, None)
