"""What is delivered again: never twice at a time, and in quarantine if a worker may have died of
it."""

import pytest

from amqpjobs.jobs.message.header_names import HEADER_ATTEMPT, HEADER_COPY
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.worker.execution.handlers import Execution
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.quarantine import PLACES, Quarantine
from amqpjobs.worker.redeliveries import Redeliveries
from amqpjobs.worker.run import Run
from tests.unit.broker.rabbitmq.fake_wire import turns
from tests.unit.worker.hand import KEY_OF, Hand, own_id

DEATH = {"x-delivery-count": 1}


class Bench:
    """The places where a redelivery may go; `running` is what the test says."""

    def __init__(self, hand, slots=1):
        self.hand = hand
        self.started, self.isolated, self.running = [], [], {}
        queues = [Queue("queue")]
        self.intake = Intake(queues, slots, self.started.append)
        self.quarantine = Quarantine(self.isolated.append, self.intake, Execution(1))
        self.redeliveries = Redeliveries(queues, self.running, self.intake, self.quarantine, KEY_OF)

    def again(self, **properties):
        delivery = self.hand.give(redelivered=True, **properties)
        self.redeliveries.offer(delivery)
        return delivery

    def run(self, **properties):
        """One that runs already."""
        run = Run(self.hand.give(**properties))
        self.running[run] = None
        return run

    def end(self, run):
        del self.running[run]
        self.redeliveries.ended(run)


@pytest.fixture
async def bench():
    async with Hand() as hand:
        yield Bench(hand)


async def test_an_innocent_goes_where_all_go(bench):
    """It was given back by a worker that stopped."""
    assert [bench.again()] == bench.started
    assert bench.isolated == []


async def test_a_suspect_goes_into_quarantine_and_takes_no_slot(bench):
    """A few at a time, the others wait there."""
    suspects = [bench.again(message_id=own_id(f"s{n}"), headers=DEATH) for n in range(PLACES + 2)]
    assert bench.isolated == suspects[:PLACES]
    assert bench.intake.running == 0
    bench.quarantine.finished()
    assert bench.isolated == suspects[: PLACES + 1]
    assert bench.redeliveries.take_waiting() == suspects[PLACES + 1 :]


async def test_nothing_is_started_in_quarantine_when_the_worker_stops(bench):
    """What comes then only waits, to be given back."""
    bench.intake.close()
    suspect = bench.again(headers=DEATH)
    assert bench.isolated == []
    assert bench.redeliveries.take_waiting() == [suspect]


async def test_what_still_runs_here_is_held_until_that_run_ends(bench):
    """RabbitMQ from 4.3 takes a delivery back while its channel lives: the first one's ack counts
    no more, and only then the second one may start."""
    run = bench.run()
    second = bench.again()
    assert bench.started == []
    assert run.delivery.stale
    bench.end(run)
    assert bench.started == [second]
    assert not bench.redeliveries.held


async def test_of_many_that_come_while_it_runs_the_last_one_counts(bench):
    """Those before were taken back, too."""
    run = bench.run()
    second, third = bench.again(), bench.again()
    assert second.stale
    bench.end(run)
    assert bench.started == [third]


async def test_only_the_same_run_of_the_same_job_is_held(bench):
    """Not its retry, and not another job; and what has no id cannot be told apart."""
    bench.run(message_id=own_id("a"))
    bench.run(message_id=None)
    bench.intake = Intake([Queue("queue")], 9, bench.started.append)
    others = [
        bench.again(message_id=own_id("b")),
        bench.again(message_id=own_id("a"), headers={HEADER_ATTEMPT: 2}),
        bench.again(message_id=None),
    ]
    assert not bench.redeliveries.held
    assert others[0] in bench.started


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"message_id": "constant"}, {"message_id": "constant"}),
        ({"message_id": "k", "headers": {HEADER_COPY: "a"}},
         {"message_id": "k", "headers": {HEADER_COPY: "b"}}),
    ],
    ids=["stranger", "key"],
)  # fmt: skip
async def test_another_job_with_the_id_of_one_that_runs_is_started(bench, first, second):
    """Held until that one succeeds, it would be taken for the same, and acked without being run."""
    run = bench.run(**first)
    bench.intake.offer(bench.hand.give(**second))
    waiting = bench.started.pop()
    again = bench.again(**second)
    bench.intake.finished()
    assert again in bench.started
    assert not run.delivery.stale
    assert not waiting.settled
    assert not bench.redeliveries.held


async def test_headers_of_strangers_break_nothing(bench):
    """A table where a number should be."""
    odd = {HEADER_ATTEMPT: {"a": [1]}}
    bench.run(headers=odd)
    bench.again(headers=odd)
    assert bench.redeliveries.held


async def test_what_waits_here_already_waits_once(bench):
    """It waited for so long that RabbitMQ took it back, and delivered it again."""
    bench.again(message_id=own_id("first"))
    waiting = bench.hand.give(message_id=own_id("a"))
    bench.intake.offer(waiting)
    again = bench.again(message_id=own_id("a"))
    assert waiting.settled
    assert bench.intake.take_waiting() == [again]


async def test_what_was_held_here_when_the_connection_was_lost_is_no_suspect(bench):
    """This worker did not die of it. The next time it is one like any other."""
    held = [bench.hand.give(message_id=own_id(i)) for i in ("a", "b")]
    held[1].ack()
    bench.hand.link.lose()
    await turns()
    bench.redeliveries.survived(held)
    bench.hand.wire = bench.hand.link.connect()
    await turns()
    known, other = (bench.again(message_id=own_id(i), headers=DEATH) for i in ("a", "c"))
    assert bench.started == [known]
    assert bench.isolated == [other]
    assert bench.again(message_id=own_id("a"), headers=DEATH) in bench.isolated
