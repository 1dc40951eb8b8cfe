"""A queue's gate, and the intake behind it: what starts, and what waits."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqpjobs import KillSwitch, Queue
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import DONE_NOTHING, Released, Retried
from amqpjobs.worker.flow.gate import LONGEST_HOLD, UNTIL_TOLD, Gate
from amqpjobs.worker.intake import Intake

FAILED = Retried(Failure("failed", ""), 1.0, ConnectionError())
SWITCH = KillSwitch(at_least=2, pause=10)


class Delivery(SimpleNamespace):
    """Each one is another one."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def delivery(queue="q", number=0):
    return Delivery(queue=queue, number=number, stale=False)


class Time:
    """A clock that is set, and what was to be told when."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def __call__(self):
        return self.now

    def wake(self, queue, seconds):
        self.timers.append((self.now + seconds, queue))

    def pass_to(self, moment, intake):
        while due := [t for t in self.timers if t[0] <= moment]:
            first = min(due)
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            intake.open(first[1])
        self.now = moment


class Bench:
    """An intake on a clock of its own."""

    def __init__(self, *queues, concurrency=10):
        self.time = Time()
        self.started = []
        self.intake = Intake(
            list(queues), concurrency, self.started.append, self.time.wake, self.time
        )
        self.queues = {queue.name: queue for queue in queues}

    def offer(self, queue="q", count=1):
        for number in range(count):
            self.intake.offer(delivery(queue, number))

    def gate(self, name="q"):
        return self.intake.gate_of(self.queues[name])

    def end(self, outcome, name="q"):
        """The oldest run ends."""
        run = self.started.pop(0)
        if self.gate(name).left(run, outcome, self.time.now):
            self.intake.open(name)
        self.intake.finished()

    def trip(self):
        self.offer(count=2)
        self.end(FAILED)
        self.end(FAILED)
        assert self.gate().switch.state == "paused"


def test_a_queue_without_limits_has_no_gate():
    """And is asked nothing."""
    bench = Bench(Queue("q"))
    assert bench.gate() is None
    assert not bench.intake.gated


def test_an_operator_holds_a_queue_and_lets_it_go():
    """For a time, or until told; a gate that was made for it lets all through afterwards."""
    bench = Bench(Queue("q"))
    bench.offer()
    gate = bench.intake.make_gate(bench.queues["q"])
    gate.held_until = bench.time.now + 5
    bench.offer(count=3)
    assert len(bench.started) == 1
    assert (gate.wait(bench.time.now), gate.consuming(bench.time.now)) == (UNTIL_TOLD, False)
    assert gate.changes_in(bench.time.now) == 5
    gate.held_until = UNTIL_TOLD
    assert gate.changes_in(bench.time.now) == UNTIL_TOLD
    gate.held_until = 0.0
    assert gate.consuming(bench.time.now)
    bench.intake.open("q")
    assert len(bench.started) == 4


def test_an_operator_s_rate_replaces_the_queue_s():
    """And goes again."""
    bench = Bench(Queue("q", rate="2/s"))
    gate = bench.gate()
    gate.limit(Queue("q", rate="1/s"))
    bench.offer(count=6)
    assert len(bench.started) == 1
    gate.limit(Queue("q"))
    bench.intake.open("q")
    assert len(bench.started) == 6


def test_starts_are_spread_as_the_rate_says():
    """One second's worth at once, then one after the other, by timers."""
    bench = Bench(Queue("q", rate="2/s"))
    bench.offer(count=6)
    assert len(bench.started) == 2
    assert bench.intake.waiting == 4
    bench.time.pass_to(0.4, bench.intake)
    assert len(bench.started) == 2
    bench.time.pass_to(0.6, bench.intake)
    assert len(bench.started) == 3
    bench.time.pass_to(10, bench.intake)
    assert len(bench.started) == 6
    assert bench.intake.waiting == 0


def test_a_rate_is_of_all_priorities_together():
    """And they still take their turns."""
    bench = Bench(Queue("q", rate="3/s", priorities={"high": 2, "low": 1}), concurrency=100)
    bench.gate().close(1, 0.0)
    bench.offer("q.high", 30)
    bench.offer("q", 30)
    assert bench.started == []
    bench.time.pass_to(3.01, bench.intake)
    assert [d.queue for d in bench.started] == ["q.high", "q", "q.high"] * 3


def test_a_held_queue_costs_the_others_nothing():
    """Its deliveries wait; those of others start at once, and take turns as ever."""
    bench = Bench(Queue("q", rate="1/m"), Queue("a"), Queue("b"), concurrency=3)
    bench.offer("q", 5)
    bench.offer("a", 3)
    bench.offer("b", 2)
    assert [d.queue for d in bench.started] == ["q", "a", "a"]
    bench.intake.finished()
    bench.intake.finished()
    bench.intake.finished()
    assert [d.queue for d in bench.started[3:]] in (["a", "b", "b"], ["b", "a", "b"])


def test_what_is_stale_uses_up_no_rate():
    """It is dropped, and the next one starts in its stead."""
    bench = Bench(Queue("q", rate="1/s"))
    bench.offer(count=3)
    waiting = bench.intake._lanes["q"]
    waiting[0].stale = True
    bench.time.pass_to(1.0, bench.intake)
    assert [d.number for d in bench.started] == [0, 2]


def test_a_paused_queue_starts_nothing_until_it_is_tried():
    """However much is offered; then one at a time, until one says something."""
    bench = Bench(Queue("q", kill_switch=SWITCH))
    bench.trip()
    bench.offer(count=3)
    assert bench.started == []
    assert bench.gate().wait(1e9) == UNTIL_TOLD
    assert bench.gate().consuming(5.0) is False
    assert bench.gate().changes_in(4.0) == 6.0
    assert bench.gate().switch.look(10.0)
    assert bench.gate().consuming(10.0) is None
    bench.intake.open("q")
    assert len(bench.started) == 1
    bench.end(Released("stop"))
    assert len(bench.started) == 1, "one that said nothing is followed by another one"
    bench.end(DONE_NOTHING)
    assert len(bench.started) == 1
    assert bench.gate().consuming(10.0) is True
    assert bench.intake.waiting == 0


def test_a_trial_of_which_nobody_knows_the_end_does_not_block_the_queue():
    """A bug around it must not pause the queue for ever; and only the first word counts."""
    bench = Bench(Queue("q", kill_switch=SWITCH))
    bench.trip()
    bench.gate().switch.look(10.0)
    bench.offer(count=2)
    (trial,) = bench.started
    assert bench.gate().left(trial, None, 10.0)
    assert not bench.gate().left(trial, FAILED, 10.0)
    assert bench.gate().switch.state == "trying"


def test_nothing_is_remembered_of_what_has_ended():
    """A gate lives as long as its worker."""
    bench = Bench(Queue("q", kill_switch=KillSwitch(at_least=1000)))
    for _ in range(50):
        bench.offer()
        bench.end(DONE_NOTHING)
    assert bench.gate()._epochs == {}


def test_a_pause_that_a_job_asked_for_is_only_prolonged():
    """The longest word counts; a long one means that nothing is held."""
    gate = Gate(Queue("q"))
    assert gate.close(20, 0.0)
    assert not gate.close(5, 1.0)
    assert gate.wait(5.0) == 15.0
    assert gate.consuming(5.0) is True
    assert gate.close(LONGEST_HOLD + 1, 5.0)
    assert gate.consuming(6.0) is False
    assert gate.changes_in(6.0) == LONGEST_HOLD
    assert gate.consuming(5.0 + LONGEST_HOLD + 1) is True
    assert gate.wait(5.0 + LONGEST_HOLD + 1) == 0


def test_what_waits_can_be_taken_queue_by_queue():
    """For a pause: the others keep theirs."""
    bench = Bench(Queue("q", rate="1/m"), Queue("a"), concurrency=1)
    bench.offer("q", 4)
    bench.offer("a", 3)
    assert len(bench.intake.take_waiting("q")) == 3
    bench.intake.finished()
    assert [d.queue for d in bench.started] == ["q", "a"]
    assert len(bench.intake.take_waiting()) == 2


def test_what_starts_beside_the_intake_passes_the_same_gate():
    """Quarantine: it counts for the rate, and what is closed is closed for it, too."""
    bench = Bench(Queue("q", rate="1/s"), Queue("a"))
    suspect = delivery("q", "suspect")
    assert bench.intake.admits(delivery("a"))
    assert bench.intake.admits(suspect)
    bench.offer("q")
    assert bench.started == []
    assert not bench.intake.admits(delivery("q"))
    assert len(bench.time.timers) == 1
    bench.time.pass_to(1.0, bench.intake)
    assert len(bench.started) == 1
    assert bench.intake.running == 1
    assert not bench.intake.admits(delivery("q"))
    bench.time.pass_to(2.1, bench.intake)
    assert bench.intake.admits(delivery("q"))


def test_a_trial_may_run_in_quarantine():
    """And what it says counts."""
    bench = Bench(Queue("q", kill_switch=SWITCH))
    bench.trip()
    suspect = delivery("q", "suspect")
    assert not bench.intake.admits(suspect)
    bench.gate().switch.look(10.0)
    assert bench.intake.admits(suspect)
    bench.offer("q")
    assert bench.started == []
    assert bench.gate().left(suspect, DONE_NOTHING, 11.0)
    assert bench.gate().consuming(11.0) is True


@pytest.mark.parametrize("switch", [None, SWITCH])
@given(
    steps=st.lists(
        st.one_of(
            st.sampled_from(["q", "q.high", "a", "done", "failed", "unknown", "look"]),
            st.floats(0.1, 15),
        ),
        max_size=60,
    )
)
def test_no_slot_is_idle_while_something_may_start(switch, steps):
    """Whatever happens in whatever order: what may start has started, what may not has not, and
    nothing is lost."""
    limited = Queue("q", rate="2/s", priorities={"high": 2, "low": 1}, kill_switch=switch)
    bench = Bench(limited, Queue("a"), concurrency=3)
    offered = ended = 0
    for step in steps:
        if isinstance(step, float):
            bench.time.pass_to(bench.time.now + step, bench.intake)
        elif step in bench.intake._lanes:
            bench.offer(step)
            offered += 1
        elif step == "look":
            gate = bench.gate()
            if gate.switch is not None and gate.switch.look(bench.time.now):
                bench.intake.open("q")
        elif bench.started:
            outcome = {"done": DONE_NOTHING, "failed": FAILED, "unknown": None}[step]
            bench.end(outcome)
            ended += 1
        lanes = bench.intake._lanes
        assert offered == ended + len(bench.started) + bench.intake.waiting
        assert bench.intake.running == len(bench.started) <= 3
        if len(bench.started) < 3:
            assert not lanes["a"]
            if lanes["q"] or lanes["q.high"]:
                assert bench.gate().wait(bench.time.now) > 0
