"""Middleware is an onion: the first layer is the outermost."""

import pytest

from amqpjobs.jobs.middleware import onion


async def core(value):
    return [f"core {value}"]


def layer(name):
    async def middleware(call_next, value):
        return [f"{name} in", *await call_next(value), f"{name} out"]

    return middleware


async def test_the_first_layer_is_the_outermost():
    """It sees the call first and the result last."""
    call = onion([layer("a"), layer("b")], core)
    assert await call(1) == ["a in", "b in", "core 1", "b out", "a out"]


def test_without_layers_it_is_the_core_itself():
    """Middleware costs nothing where there is none."""
    assert onion([], core) is core


async def test_a_layer_that_does_not_call_on_ends_the_call():
    """Nothing behind it runs."""

    async def stop(call_next, value):
        return "stopped"

    async def never(call_next, value):
        raise AssertionError

    assert await onion([stop, never], core)(1) == "stopped"


async def test_a_layer_may_pass_on_another_value():
    """What is behind it sees that one."""

    async def double(call_next, value):
        return await call_next(value * 2)

    assert await onion([double, double], core)(3) == ["core 12"]


async def test_an_error_passes_every_layer_on_its_way_out():
    """Each may turn it into a result."""
    seen = []

    async def broken(value):
        raise LookupError(value)

    async def note(call_next, value):
        try:
            return await call_next(value)
        except LookupError as error:
            seen.append(error.args)
            raise

    with pytest.raises(LookupError):
        await onion([note, note], broken)(1)
    assert seen == [(1,), (1,)]


async def test_a_layer_may_call_on_twice():
    """As one that tries again does."""
    calls = []

    async def count(value):
        calls.append(value)

    async def twice(call_next, value):
        await call_next(value)
        await call_next(value)

    await onion([twice], count)("x")
    assert calls == ["x", "x"]
