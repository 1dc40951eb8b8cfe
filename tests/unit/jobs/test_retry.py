"""The retry policy: pure, so that properties say all there is to say."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import Retry
from amqpjobs.errors import ConfigurationError, RemoteError
from amqpjobs.jobs.exceptions import class_name
from amqpjobs.jobs.retry import (
    has_attempt_after,
    longest_pause,
    longest_pause_after,
    pause_after,
    retries,
)

policies = st.builds(
    lambda attempts, first, factor, more, jitter: Retry(
        attempts=attempts, first=first, factor=factor, limit=first + more, jitter=jitter
    ),
    st.none() | st.integers(1, 10_000),
    st.floats(0, 1e6),
    st.floats(1, 1e6),
    st.floats(0, 1e9),
    st.booleans(),
)
attempts = st.integers(1, 10_000)


@given(policies, attempts, st.floats(0, 1))
def test_a_pause_is_between_nothing_and_its_bound(policy, attempt, chance):
    """Whatever the numbers: never negative, never beyond the limit, never not a number."""
    pause = pause_after(policy, attempt, chance)
    assert 0 <= pause <= longest_pause_after(policy, attempt) <= policy.limit
    assert math.isfinite(pause)


@given(policies, attempts)
def test_bounds_do_not_shrink(policy, attempt):
    """Each failure is at least as patient as the one before."""
    assert longest_pause_after(policy, attempt) <= longest_pause_after(policy, attempt + 1)
    assert longest_pause_after(policy, 1) == min(policy.first, policy.limit)


@given(policies, attempts)
def test_the_jitter_is_full(policy, attempt):
    """From nothing to the bound; without jitter it is the bound."""
    bound = longest_pause_after(policy, attempt)
    lowest, highest = pause_after(policy, attempt, 0.0), pause_after(policy, attempt, 1.0)
    assert (lowest, highest) == ((0.0, bound) if policy.jitter else (bound, bound))


@given(policies)
def test_a_job_that_always_fails_runs_as_often_as_it_may(policy):
    """Not once more, and not once less."""
    runs = 1
    while runs < 20_000 and retries(policy, ValueError(), runs):
        runs += 1
    assert runs == (20_000 if policy.attempts is None else policy.attempts)


@given(policies, attempts)
def test_no_pause_is_longer_than_the_longest(policy, attempt):
    """For those who must make room for it beforehand."""
    if has_attempt_after(policy, attempt):
        assert pause_after(policy, attempt, 1.0) <= longest_pause(policy)
    assert longest_pause(policy) <= policy.limit


def test_bounds_grow_by_the_factor_up_to_the_limit():
    """The example of the design."""
    policy = Retry(attempts=8, first=1.0, factor=2.0, limit=10.0)
    assert [longest_pause_after(policy, attempt) for attempt in range(1, 7)] == [1, 2, 4, 8, 10, 10]


def test_only_the_classes_asked_for_are_retried():
    """Subclasses count; what to give up on goes first."""
    policy = Retry(on=(OSError, KeyError), give_up_on=FileNotFoundError)
    assert retries(policy, ConnectionError(), 1)
    assert retries(policy, KeyError(), 1)
    assert not retries(policy, FileNotFoundError(), 1)
    assert not retries(policy, ValueError(), 1)


def test_by_default_whatever_asks_the_program_to_end_is_not_retried():
    """`sys.exit` in a handler, say."""
    assert retries(Retry(), ValueError(), 1)
    assert not retries(Retry(), SystemExit(), 1)


class Refused(ConnectionError):
    """One of the user's."""


def test_what_a_process_raised_is_known_by_the_names_of_its_classes():
    """The classes themselves stay in the process of the job."""
    names = tuple(class_name(kind) for kind in Refused.__mro__)
    error = RemoteError("no", exception=names[0], kinds=names, frames=(), traceback="")
    assert retries(Retry(on=ConnectionError), error, 1)
    assert retries(Retry(on=(ValueError, Refused)), error, 1)
    assert retries(Retry(), error, 1)
    assert not retries(Retry(on=ValueError), error, 1)
    assert not retries(Retry(give_up_on=OSError), error, 1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"attempts": 0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"first": -1}, "first"),
        ({"first": float("nan")}, "first"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("inf")}, "factor"),
        ({"first": 10, "limit": 5}, "limit"),
        ({"on": "ValueError"}, "exception classes"),
        ({"give_up_on": (ValueError, 3)}, "exception classes"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(given, words):
    """When the module loads, in words that name the argument."""
    with pytest.raises(ConfigurationError, match=words):
        Retry(**given)


def test_a_policy_is_a_value():
    """Equal to its like, and usable wherever values are."""
    assert pickle.loads(pickle.dumps(Retry(attempts=3))) == Retry(attempts=3)
    assert len({Retry(), Retry(), Retry(attempts=3)}) == 2
