"""Results of steps, as what they are."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from amqpjobs.errors import InvalidResult
from amqpjobs.state.durable.typed import fingerprint, typed_of


@dataclass
class Rate:
    value: float


class Caller:
    """A callable that has no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self) -> Rate:
        return Rate(1.5)

    def __eq__(self, other: object) -> bool:
        return True


def rate() -> Rate:
    return Rate(1.5)


@pytest.mark.parametrize("function", [rate, partial(rate), Caller(), Caller().__call__])
def test_any_callable_can_be_a_step(function: Any) -> None:
    """One that has no hash, too."""
    typed = typed_of("the step 'rate'", function)
    assert typed.load(typed.dump(Rate(1.5))) in (Rate(1.5), {"value": 1.5})


def test_a_result_that_does_not_fit_names_its_step() -> None:
    """And never shows the value."""
    with pytest.raises(InvalidResult, match="the step 'rate'") as caught:
        typed_of("the step 'rate'", rate).load(b'{"value": "secret"}')
    assert "secret" not in str(caught.value)


def test_arguments_are_told_apart_by_what_json_has_of_them() -> None:
    """A client counts by its type: another one of it is no other argument."""
    assert fingerprint((1, object()), {"a": 2}) == fingerprint((1, object()), {"a": 2})
    assert fingerprint((1,), {}) != fingerprint((2,), {})


def test_bytes_have_a_fingerprint():
    """Of any value, text or not."""
    first, second = fingerprint((b"\xff\xfe",), {}), fingerprint((b"\xff",), {})
    assert first != second
    assert first == fingerprint((b"\xff\xfe",), {})
