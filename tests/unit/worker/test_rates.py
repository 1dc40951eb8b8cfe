"""The token bucket: never more than it says, never less than it could."""

from bisect import bisect_right

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import Queue
from amqpjobs.jobs.queue.limits import LONGEST_HOLD
from amqpjobs.jobs.queue.queue import lanes_of, starts_of
from amqpjobs.worker.flow.token_bucket import WAITING, Bucket, prefetch_of

RATES = st.sampled_from(["7/h", "30/m", "0.5/s", "1/s", "1.5/s", "20/s", "1000/s"])
GRACE = 1e-6
"""Of floating point, in starts."""


@given(RATES, st.lists(st.tuples(st.floats(0, 30), st.integers(0, 60)), max_size=40))
def test_in_any_window_no_more_start_than_it_says(rate, crowds):
    """Whatever comes when: rate * t + burst, for every window between two starts."""
    per_second = starts_of(Queue("q", rate=rate))
    bucket = Bucket(per_second)
    now, starts = 0.0, []
    for gap, crowd in crowds:
        now += gap
        for _ in range(crowd):
            if bucket.wait(now) > 0:
                break
            bucket.take(now)
            starts.append(now)
    for i, first in enumerate(starts):
        for j in range(i, len(starts)):
            allowed = per_second * (starts[j] - first) + bucket.burst
            assert j - i + 1 <= allowed + GRACE


@given(RATES, st.integers(1, 200))
def test_whoever_waits_as_long_as_it_says_gets_the_whole_rate(rate, count):
    """After the burst, one each 1 / rate seconds: nothing is lost by waiting."""
    per_second = starts_of(Queue("q", rate=rate))
    bucket = Bucket(per_second)
    now, starts = 0.0, []
    while len(starts) < count:
        wait = bucket.wait(now)
        if wait == 0:
            bucket.take(now)
            starts.append(now)
        now += wait
    assert now <= max(0.0, count - bucket.burst + 1) / per_second + GRACE
    assert bisect_right(starts, 0.0) == min(count, int(bucket.burst))


def test_the_burst_is_a_second_and_at_least_one():
    """A slow rate starts one, a fast one no more than a second's worth."""
    assert Bucket(0.1).burst == 1
    assert Bucket(250.0).burst == 250


@pytest.mark.parametrize(
    ("options", "wanted", "held"),
    [
        ({}, 40, [40]),
        ({"rate": "100/s"}, 40, [40]),
        ({"rate": "1/s"}, 40, [30]),
        ({"rate": "10/m"}, 40, [5]),
        ({"rate": "6/h"}, 40, [1]),
        ({"rate": "1/s", "priorities": {"high": 2, "low": 1}}, 40, [20, 10]),
        ({"rate": "1/m", "priorities": {"high": 6, "normal": 3, "low": 1}}, 40, [1, 1, 1]),
    ],
)
def test_no_more_is_held_than_starts_soon(options, wanted, held):
    """What waits here cannot be started by another worker."""
    queue = Queue("q", **options)
    assert [prefetch_of(queue, lane, wanted) for lane in lanes_of(queue)] == held


@given(
    st.floats(0.0017, 100),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 500),
)
def test_nothing_is_held_for_long(per_second, weights, wanted):
    """A full prefetch of the least urgent lane starts within the limit, or the rate is refused."""
    priorities = {f"p{i}": w for i, w in enumerate(weights)}
    share = min(weights) / sum(weights)
    if 1 / (per_second * share) > LONGEST_HOLD:
        return
    queue = Queue("q", rate=f"{per_second:.6f}/s", priorities=priorities)
    for lane in lanes_of(queue):
        held = prefetch_of(queue, lane, wanted)
        takes = held / (starts_of(queue) * lane.weight / sum(weights))
        assert takes <= max(WAITING, LONGEST_HOLD) * 1.001
