"""Which delivery is started next: fair between queues, by weight between priorities."""

from collections import Counter, deque
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import Queue
from amqpjobs.jobs.queue.queue import lanes_of
from amqpjobs.worker.intake import Intake, cycle_of

PRIORITIES = {"high": 6, "normal": 3, "low": 1}
WEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
    lambda weights: Queue("q", priorities={f"p{i}": w for i, w in enumerate(weights)})
)


def delivery(queue, number=0, stale=False):
    return SimpleNamespace(queue=queue, number=number, stale=stale)


class Started(list):
    """What was started, in order; `running` is kept as slots are given back."""

    def queues(self):
        return [d.queue for d in self]


def full(queue, waiting, concurrency=1):
    """An intake whose slots are all taken, with that many waiting in each lane."""
    started = Started()
    intake = Intake([queue], concurrency, started.append)
    for _ in range(concurrency):
        intake.offer(delivery(queue.name, "first"))
    for lane in lanes_of(queue):
        for number in range(waiting):
            intake.offer(delivery(lane.queue, number))
    started.clear()
    return intake, started


@given(WEIGHTS, st.integers(0, 40))
def test_in_any_window_each_lane_gets_its_weight_while_all_of_them_wait(queue, offset):
    """Of every sum(weights) starts in a row, wherever one begins to count."""
    total = sum(lane.weight for lane in lanes_of(queue))
    intake, started = full(queue, waiting=offset + total)
    for _ in range(offset + total):
        intake.finished()
    window = Counter(started.queues()[offset : offset + total])
    assert window == {lane.queue: lane.weight for lane in lanes_of(queue)}


@given(WEIGHTS, st.data())
def test_no_lane_starves_whatever_the_others_do(queue, data):
    """With any number of others arriving, one that waits is started within a cycle's starts."""
    lanes = [lane.queue for lane in lanes_of(queue)]
    patient = data.draw(st.sampled_from(lanes))
    intake, started = full(queue, waiting=0)
    intake.offer(delivery(patient, "patient"))
    total = sum(lane.weight for lane in lanes_of(queue))
    for _ in range(total):
        for lane in data.draw(st.lists(st.sampled_from(lanes), min_size=1, max_size=3)):
            intake.offer(delivery(lane, "other"))
        intake.finished()
        if any(d.number == "patient" for d in started):
            return
    raise AssertionError(f"still waiting after {total} starts")


@given(
    st.integers(1, 5),
    st.lists(st.one_of(st.just("finish"), st.sampled_from(["a", "b.high", "b", "stale a"]))),
)
def test_concurrency_is_never_exceeded_and_no_slot_is_left_idle(concurrency, steps):
    """Whatever arrives and ends, in whatever order; and nothing is lost or started twice."""
    running = 0
    offered, started = 0, Started()

    def start(given):
        nonlocal running
        running += 1
        assert running <= concurrency
        started.append(given)

    intake = Intake([Queue("a"), Queue("b", priorities={"high": 2, "low": 1})], concurrency, start)
    for step in steps:
        if step == "finish":
            if running:
                running -= 1
                intake.finished()
        else:
            queue = step.removeprefix("stale ")
            offered += 1
            # What is stale when it arrives has never been seen; it becomes so while it waits.
            given_now = delivery(queue, offered)
            intake.offer(given_now)
            if step.startswith("stale") and given_now not in started:
                given_now.stale = True
        assert intake.running == running
        assert intake.waiting == 0 or running == concurrency
    numbers = [d.number for d in started]
    assert len(set(numbers)) == len(numbers)
    assert not any(d.stale for d in started)
    waiting = intake.take_waiting()
    assert set(numbers).isdisjoint(d.number for d in waiting)


def test_within_a_lane_the_first_to_come_is_the_first_to_start():
    """Order is kept as far as priorities allow."""
    intake, started = full(Queue("q", priorities=PRIORITIES), waiting=6)
    for _ in range(18):
        intake.finished()
    for lane in ("q.high", "q", "q.low"):
        assert [d.number for d in started if d.queue == lane] == list(range(6))


def test_a_lane_with_nothing_waiting_passes_its_turn_on():
    """A slot is never kept for a priority that may come."""
    queue = Queue("q", priorities=PRIORITIES)
    started = Started()
    intake = Intake([queue], 1, started.append)
    for number in range(5):
        intake.offer(delivery("q.low", number))
    for _ in range(4):
        intake.finished()
    assert [d.number for d in started] == list(range(5))


def test_queues_take_turns():
    """One with a thousand jobs does not keep another one with two waiting."""
    started = Started()
    intake = Intake([Queue("a"), Queue("b"), Queue("c")], 1, started.append)
    for queue, count in (("a", 6), ("b", 2), ("c", 3)):
        for number in range(count):
            intake.offer(delivery(queue, number))
    while intake.running and len(started) < 11:
        intake.finished()
    assert "".join(started.queues()) == "aabcabcaca" + "a"


def test_what_became_stale_while_it_waited_is_not_started():
    """It was given to another worker by now; it takes no slot."""
    intake, started = full(Queue("q"), waiting=0)
    old = [delivery("q", "old") for _ in range(3)]
    for each in old:
        intake.offer(each)
    intake.offer(delivery("q", "new"))
    for each in old:
        each.stale = True
    intake.finished()
    assert [d.number for d in started] == ["new"]
    assert (intake.running, intake.waiting) == (1, 0)


def test_a_lane_full_of_stale_deliveries_costs_the_others_nothing():
    """A worker that has lost its connection picks up where it was."""
    intake, started = full(Queue("q", priorities=PRIORITIES), waiting=0)
    old = [delivery("q.high", "old") for _ in range(50)]
    for each in old:
        intake.offer(each)
    intake.offer(delivery("q.low", "new"))
    for each in old:
        each.stale = True
    intake.finished()
    assert [d.number for d in started] == ["new"]


def test_once_closed_nothing_is_started():
    """What is offered or waits is for `take_waiting`."""
    intake, started = full(Queue("q", priorities=PRIORITIES), waiting=2, concurrency=2)
    intake.close()
    intake.finished()
    intake.finished()
    intake.offer(delivery("q", "late"))
    assert started == []
    assert (intake.running, intake.waiting) == (0, 7)
    assert len(intake.take_waiting()) == 7
    assert intake.take_waiting() == []
    assert intake.waiting == 0


def test_paused_it_starts_nothing_until_it_is_resumed():
    """What is offered meanwhile waits, though there is a slot."""
    started = Started()
    intake = Intake([Queue("q")], 2, started.append)
    intake.pause("test")
    intake.offer(delivery("q", 1))
    intake.offer(delivery("q", 2))
    assert started == []
    intake.resume("test")
    assert [d.number for d in started] == [1, 2]


def test_a_pause_that_ends_after_the_close_opens_nothing():
    """The worker stops while a job runs alone."""
    started = Started()
    intake = Intake([Queue("q")], 1, started.append)
    intake.pause("test")
    intake.close()
    intake.resume("test")
    intake.offer(delivery("q"))
    assert started == []


def test_what_is_dropped_waits_no_more():
    """Of whichever lane; the others keep their order."""
    intake, started = full(Queue("q", priorities=PRIORITIES), waiting=3)
    dropped = intake.drop(lambda d: d.number == 1)
    assert sorted(d.queue for d in dropped) == ["q", "q.high", "q.low"]
    assert intake.waiting == 6
    for _ in range(6):
        intake.finished()
    assert {d.number for d in started} == {0, 2}
    assert intake.waiting == 0


def test_what_waits_is_given_back_in_the_order_of_its_queue():
    """So that the broker has it in its old place."""
    intake, _ = full(Queue("q", priorities=PRIORITIES), waiting=3)
    taken = intake.take_waiting()
    for lane in ("q.high", "q", "q.low"):
        assert [d.number for d in taken if d.queue == lane] == [0, 1, 2]


def test_it_says_what_it_holds():
    """In logs and in tests."""
    intake, _ = full(Queue("q"), waiting=3, concurrency=2)
    assert repr(intake) == "<Intake: 2 running, 3 waiting>"


@pytest.mark.parametrize(
    ("priorities", "turns"),
    [
        ({}, "q"),
        ({"high": 1, "low": 1}, "high q"),
        ({"high": 3, "low": 1}, "high high q high"),
        (PRIORITIES, "high q high high low q high high q high"),
    ],
)
def test_the_turns_of_a_cycle_are_spread_evenly(priorities, turns):
    """Not six urgent ones and then a pause."""
    names = [name.removeprefix("q.") for name in cycle_of(Queue("q", priorities=priorities))]
    assert Counter(names) == Counter(turns.split())
    gaps = deque(names)
    for name in set(names):
        places = [i for i, n in enumerate([*gaps, *gaps]) if n == name]
        widest = max(b - a for a, b in pairwise(places))
        assert widest <= -(-len(names) // names.count(name)) + 1


def test_nothing_is_started_in_doubt():
    """What was delivered may not be ours any more; it starts when it is known to be."""
    certain = False
    started = []
    intake = Intake([Queue("a")], 2, started.append, certain=lambda: certain)
    for number in range(3):
        intake.offer(delivery("a", number))
    assert (started, intake.waiting) == ([], 3)
    certain = True
    intake.go_on()
    assert len(started) == 2
    certain = False
    intake.finished()
    assert (len(started), intake.waiting) == (2, 1)
