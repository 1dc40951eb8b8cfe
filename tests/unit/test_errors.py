"""One root for every error, and errors that survive the way between processes."""

import copy
import inspect
import pickle

import pytest

from amqpjobs import Reject, errors
from amqpjobs.errors import (
    AmqpJobsError,
    BrokerUnavailable,
    InvalidArguments,
    LockTimeout,
    MessageTooLarge,
    NoResult,
    NotConfirmed,
    PublishError,
    PublishManyFailed,
    PublishRejected,
    ResultTimeout,
    TopologyMismatch,
    UnknownJob,
    Unroutable,
)

KINDS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if kind.__module__ == errors.__name__
]

EXAMPLES = [
    BrokerUnavailable("away", temporary=False),
    TopologyMismatch("differs", entity="queue 'q'", difference="x-max-length"),
    InvalidArguments("wrong", job="resize"),
    UnknownJob("none", job="resize"),
    Unroutable("lost", message_id="7"),
    PublishRejected("full", message_id="7"),
    NotConfirmed("late", message_id="7", sent=True),
    MessageTooLarge("large", message_id="7"),
    LockTimeout("taken", name="invoice:7"),
    ResultTimeout("late", job_id="7", timeout=3.0, state="started"),
    NoResult("not kept", job_id="7", state=None),
    PublishManyFailed("some", results=[1, 2]),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_has_the_one_root_and_says_what_it_means(kind):
    """One `except AmqpJobsError` catches whatever amqpjobs raises by itself."""
    assert issubclass(kind, AmqpJobsError)
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_error_shadows_a_builtin(kind):
    """A `from amqpjobs.errors import *` must not take Python's own TimeoutError away."""
    import builtins

    assert not hasattr(builtins, kind.__name__)


@pytest.mark.parametrize(
    "kind", [Unroutable, PublishRejected, NotConfirmed, MessageTooLarge, PublishManyFailed]
)
def test_whatever_keeps_a_message_from_the_broker_is_a_publish_error(kind):
    """`except PublishError` around `later` catches them all."""
    assert issubclass(kind, PublishError)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("through", [copy.copy, lambda e: pickle.loads(pickle.dumps(e))])
def test_an_error_keeps_its_data_on_the_way_between_processes(error, through):
    """A `cpu=True` job that raises one of ours does so in another process."""
    again = through(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_reject_keeps_its_reason_on_the_way_between_processes():
    """Raised in a `cpu=True` job."""
    again = pickle.loads(pickle.dumps(Reject("no such album")))
    assert (again.reason, str(again)) == ("no such album", "no such album")


def test_the_errors_of_many_are_told_by_position():
    """So that a caller can pair them with the list that was given."""
    first, second = Unroutable("a"), MessageTooLarge("b")
    failed = PublishManyFailed("2 of 4", results=["handle", first, "handle", second])
    assert failed.errors == {1: first, 3: second}


def test_a_broker_that_is_away_is_worth_another_try_unless_said_otherwise():
    """Only a refusal for good stops a publisher from waiting for the broker."""
    assert BrokerUnavailable("away").temporary
    assert not BrokerUnavailable("refused", temporary=False).temporary
