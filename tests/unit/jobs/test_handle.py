"""The handle of a job: a value of three fields, which knows whom to ask."""

import copy
import pickle
from dataclasses import asdict, replace

import pytest

from amqpjobs import App, BlockingJobHandle, JobHandle
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.handle import blocking_handle_of, handle_of

app = App("handles")


@app.job(queue="handles")
async def double(n: int) -> int:
    return 2 * n


def linked() -> JobHandle[int]:
    return handle_of(double.message(3), app)


def both():
    handle = linked()
    return [handle, blocking_handle_of(handle, app.blocking())]


@pytest.mark.parametrize("handle", both(), ids=lambda handle: type(handle).__name__)
def test_its_app_takes_no_part_in_equality_repr_and_pickling(handle):
    """It is its id, job and queue, whatever it is connected to."""
    plain = type(handle)(handle.id, "double", "handles")
    assert handle == plain
    assert hash(handle) == hash(plain)
    assert repr(handle) == repr(plain)
    assert pickle.dumps(handle) == pickle.dumps(plain)
    assert pickle.loads(pickle.dumps(handle)) == handle
    fields = {"id": handle.id, "job": "double", "queue": "handles"}
    assert asdict(handle) == {**fields, "existing": False}


@pytest.mark.parametrize(
    "made",
    [
        lambda handle: type(handle)(handle.id, handle.job, handle.queue),
        lambda handle: pickle.loads(pickle.dumps(handle)),
        copy.copy,
        lambda handle: replace(handle, queue="other"),
    ],
    ids=["by hand", "pickled", "copied", "replaced"],
)
async def test_without_an_app_the_error_names_the_way(made):
    """The id is all that is needed."""
    handle, blocking = both()
    words = f"no app.*app\\.status\\('{handle.id}'\\)"
    with pytest.raises(ConfigurationError, match=words):
        await made(handle).status()
    with pytest.raises(ConfigurationError, match=words):
        await made(handle).result(timeout=1)
    with pytest.raises(ConfigurationError, match=words):
        made(handle).watch()
    words = f"no app.*client\\.status\\('{handle.id}'\\)"
    for ask in (lambda h: h.status(), lambda h: h.result(timeout=1), lambda h: h.watch()):
        with pytest.raises(ConfigurationError, match=words):
            ask(made(blocking))


def test_it_stays_frozen_and_small():
    """No dict, and nothing to be set."""
    for handle in both():
        assert not hasattr(handle, "__dict__")
        with pytest.raises(AttributeError):
            handle.id = "other"


def test_a_handle_of_a_blocking_client_is_no_awaitable_one():
    """Code that awaits is told by its type checker, and not by a coroutine that nobody awaits."""
    handle, blocking = both()
    assert not isinstance(blocking, JobHandle)
    assert isinstance(blocking, BlockingJobHandle)
    assert handle != blocking
