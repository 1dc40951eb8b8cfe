"""Settling: each outcome is exactly one settlement, and a copy is confirmed before its original is
acked."""

import asyncio
import time
from dataclasses import replace

import pytest
from pamqp import commands

from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import Unroutable
from amqpjobs.jobs.message.copies import retried
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.header_names import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DROPPED,
    HEADER_DUE,
    HEADER_ERROR,
    HEADER_HISTORY,
)
from amqpjobs.jobs.message.headers import history_of
from amqpjobs.jobs.message.properties import JSON, Properties
from amqpjobs.jobs.outcome import (
    Answered,
    Cancelled,
    Done,
    Expired,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
)
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.worker import recently_settled as settled_module
from amqpjobs.worker import replacing as replacing_module
from amqpjobs.worker.recently_settled import Settled
from amqpjobs.worker.replacing import Copy
from amqpjobs.worker.settlement import Settlement
from tests.unit.broker.rabbitmq.fake_wire import Link, turns
from tests.unit.worker.hand import BROKEN_HEADER, BROKEN_TABLE, KEY_OF, Hand, ours, own_id

FAILURE = Failure("failed", "boom", queue="queue")


def told_by(copy):
    """The headers of a copy, but for what tells it from the others."""
    headers = dict(copy.properties.headers)
    assert headers.pop(HEADER_COPY)
    return headers


async def _nothing(wire):
    """The queues are there."""


class Bench:
    """A settlement, the queue it settles for, and the connection that it publishes on."""

    def __init__(self, hand):
        self.hand = hand
        self.link = Link()
        self.wire = self.link.connect()
        self.publication = Publication(self.link, _nothing)
        self.waiting = Waiting(self.link, self.publication, declare=False)
        self.settled = Settled(KEY_OF)
        self.restored = 0
        self.settlement = Settlement(
            self.publication, self.waiting, [Queue("queue")], self.settled, self.restore
        )
        self.tasks = [asyncio.create_task(self.publication.run())]

    async def restore(self):
        self.restored += 1

    def settle(self, delivery, outcome):
        """The task that waits for the confirm."""
        task = asyncio.ensure_future(self.settlement.settle(delivery, outcome))
        self.tasks.append(task)
        return task

    async def copies(self):
        await turns()
        return self.wire.published()

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(replacing_module, "LONGEST_PAUSE", 0.0)
    async with Hand() as hand:
        made = Bench(hand)
        await turns()
        yield made
        await made.end()


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Done(3), "ack 1"),
        (Done(), "ack 1"),
        (Expired(1.0), "ack 1"),
        (Answered(FAILURE), "ack 1"),
        (Cancelled(), "ack 1"),
        (Released("stop"), "give back 1"),
    ],
)
async def test_what_needs_no_copy_is_settled_at_once(bench, outcome, word):
    """One settlement, and nothing to wait for."""
    delivery = bench.hand.give()
    assert bench.settlement.settle(delivery, outcome) is None
    assert delivery.settled
    assert await bench.hand.settlements() == [word]
    assert await bench.copies() == []


@pytest.mark.parametrize(
    ("outcome", "target"), [(Rejected(FAILURE), "queue.dead"), (Parked(FAILURE), "queue.parked")]
)
async def test_a_copy_is_confirmed_before_its_original_is_acked(bench, outcome, target):
    """A death in between leaves two, never none."""
    delivery = bench.hand.give(body=b"\xffraw", type="job")
    settling = bench.settle(delivery, outcome)
    [copy] = await bench.copies()
    assert (copy.routing_key, copy.body, copy.mandatory) == (target, b"\xffraw", True)
    assert copy.properties.headers[HEADER_ERROR]["reason"] == "failed"
    assert await bench.hand.settlements() == []
    bench.wire.confirm(1)
    assert await settling is outcome
    assert await bench.hand.settlements() == ["ack 1"]


@pytest.mark.parametrize("outcome", [Done(3), Answered(FAILURE), Expired(1.0), Rejected(FAILURE)])
async def test_a_callback_is_confirmed_before_its_job_is_acked(bench, outcome):
    """And the dead letter before its callback. An outcome that has no callback has none."""
    made = []

    def make(delivery, outcome, context, dead):
        made.append(dead)
        return [Copy(Properties(type="next"), b"7", "other")]

    bench.settlement._callbacks = make
    delivery = bench.hand.give(type="job")
    settling = asyncio.ensure_future(
        bench.settlement.settle(delivery, outcome, None, callbacks=True)
    )
    bench.tasks.append(settling)
    copies = await bench.copies()
    if isinstance(outcome, Rejected):
        assert [copy.routing_key for copy in copies] == ["queue.dead"]
        bench.wire.confirm(1)
        copies = (await bench.copies())[1:]
    [copy] = copies
    assert (copy.routing_key, copy.body, copy.properties.type) == ("other", b"7", "next")
    assert await bench.hand.settlements() == []
    bench.wire.confirm(2 if isinstance(outcome, Rejected) else 1)
    assert await settling is outcome
    assert await bench.hand.settlements() == ["ack 1"]
    assert made == ["queue.dead"]


async def test_a_copy_keeps_what_the_message_is_and_leaves_what_would_act(bench):
    """User, expiration, CC and BCC, and the broker's own history stay behind."""
    original = Properties(
        content_type=JSON, type="job", message_id="7", correlation_id="c", reply_to="r",
        user_id="guest", expiration="1000", delivery_mode=1, priority=4, timestamp=9, app_id="web",
        headers={
            "CC": ["elsewhere"], "BCC": ["elsewhere"], "x-death": [{"count": 1}], "mine": 1,
            "x-first-death-queue": "q", "x-last-death-reason": "r", "x-delivery-count": 3,
            HEADER_ATTEMPT: 2,
        },
    )  # fmt: skip
    bench.settle(bench.hand.give(original), Rejected(FAILURE))
    [copy] = await bench.copies()
    headers = copy.properties.headers
    assert set(headers) == {"mine", HEADER_ATTEMPT, HEADER_COPY, HEADER_ERROR}
    assert copy.properties == Properties(
        content_type=JSON, type="job", message_id="7", correlation_id="c", reply_to="r",
        delivery_mode=2, priority=4, timestamp=9, app_id="web", headers=headers,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("header", "readable"),
    [(BROKEN_HEADER, ("application/octet-stream", None)), (BROKEN_TABLE, (JSON, "job"))],
    ids=["header", "headers table"],
)
async def test_a_message_whose_properties_cannot_be_read_is_put_aside_with_its_body(
    bench, header, readable
):
    """And with why, and with as much of the rest as can be read."""
    settling = bench.settle(bench.hand.give(body=b"{}", header=header), Rejected(FAILURE))
    [copy] = await bench.copies()
    assert copy.body == b"{}"
    assert (copy.properties.content_type, copy.properties.type) == readable
    assert set(copy.properties.headers) == {HEADER_COPY, HEADER_ERROR}
    bench.wire.confirm(1)
    await settling
    assert await bench.hand.settlements() == ["ack 1"]


async def test_headers_that_leave_no_room_for_ours_stay_behind(bench):
    """A frame holds only so much: why it is there matters more than a stranger's headers."""
    large = Properties(type="job", headers={"x": "y" * 130_900})
    settling = bench.settle(bench.hand.give(large), Rejected(Failure("failed", "z" * 500)))
    [copy] = await bench.copies()
    assert copy.properties.type == "job"
    assert set(copy.properties.headers) == {HEADER_COPY, HEADER_ERROR, HEADER_DROPPED}
    assert copy.properties.headers[HEADER_DROPPED] == ["x"]
    bench.wire.confirm(1)
    await settling
    assert await bench.hand.settlements() == ["ack 1"]


@pytest.mark.parametrize("refusal", ["nack", "return", "channel"])
async def test_a_copy_that_the_broker_does_not_take_is_tried_again(bench, refusal, caplog):
    """No dead-letter queue, or a full one: the job stays unacked, and does not run again."""
    delivery = bench.hand.give(type="job")
    settling = bench.settle(delivery, Rejected(FAILURE))
    [copy] = await bench.copies()
    if refusal == "nack":
        bench.wire.confirm(1, acked=False)
    elif refusal == "return":
        bench.wire.give_back(copy)
        bench.wire.confirm(1)
    else:
        bench.wire.channels[0].refuse(RuntimeError("406 of another one's message"))
    again = (await bench.copies())[-1]
    assert again.properties == copy.properties
    assert again is not copy
    assert await bench.hand.settlements() == []
    bench.wire.say(commands.Basic.Ack(again.number), again.channel)
    assert await settling == Rejected(FAILURE)
    assert await bench.hand.settlements() == ["ack 1"]
    assert ("not confirmed" in caplog.text) == (refusal != "channel")
    assert bench.restored == (refusal == "return")


async def test_a_copy_that_is_not_confirmed_in_time_is_never_acked_on_a_guess(bench, monkeypatch):
    """It may have arrived: then it is there twice, under one id."""
    monkeypatch.setattr(replacing_module, "CONFIRM_TIMEOUT", 0.01)
    settling = bench.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    while len(await bench.copies()) < 3:
        assert not settling.done()
    assert await bench.hand.settlements() == []
    monkeypatch.setattr(replacing_module, "CONFIRM_TIMEOUT", 60)
    while not settling.done():
        bench.wire.confirm(len(await bench.copies()))
    assert await bench.hand.settlements() == ["ack 1"]


async def test_copies_that_fail_again_and_again_are_not_tried_in_a_hot_loop(bench, monkeypatch):
    """There is a pause after each failure, which grows, and has a limit."""
    monkeypatch.setattr(replacing_module, "LONGEST_PAUSE", 7.0)
    pauses = []
    sleep = asyncio.sleep

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 1100:
            bench.hand.link.lose()
        await sleep(0)

    monkeypatch.setattr(replacing_module.asyncio, "sleep", pause)
    settling = bench.settlement.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    bench.publication.send_for = refusing
    assert isinstance(await settling, Released)
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert pauses == sorted(pauses)
    assert pauses[-1] == 7.0


async def test_what_comes_again_since_its_connection_was_lost_is_not_copied_any_more(bench):
    """Not even when the first try of the copy had failed: RabbitMQ gives it out again."""
    settling = bench.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    await turns()
    bench.hand.link.lose()
    await turns()
    bench.wire.confirm(1, acked=False)
    assert isinstance(await settling, Released)
    assert len(await bench.copies()) == 1


async def test_a_failed_run_is_replaced_by_a_copy_with_the_next_attempt(bench):
    """With the errors of all runs so far; below a second it goes straight to its queue."""
    earlier = Failure("failed", "first", attempt=1)
    history = retried(Properties(), earlier, 2, 1.0).headers
    delivery = bench.hand.give(type="job", message_id="7", headers=dict(history))
    before = time.time()
    failure = replace(FAILURE, attempt=2, exception="ValueError", frames=("a.py:1 f",))
    settling = bench.settle(delivery, Retried(failure, 0.5))
    [copy] = await bench.copies()
    assert (copy.exchange, copy.routing_key, copy.properties.message_id) == ("", "queue", "7")
    headers = copy.properties.headers
    assert headers[HEADER_ATTEMPT] == 3
    assert before + 0.5 <= headers[HEADER_DUE] / 1000 <= time.time() + 0.51
    assert [f.message for f in history_of(headers)] == ["first", "boom"]
    assert history_of(headers)[1] == failure
    assert HEADER_ERROR not in headers
    assert await bench.hand.settlements() == []
    bench.wire.confirm(1)
    await settling
    assert await bench.hand.settlements() == ["ack 1"]


async def test_what_is_put_off_keeps_its_attempt(bench):
    """And whatever else it knew."""
    delivery = bench.hand.give(type="job", headers={HEADER_ATTEMPT: 4, "mine": 1})
    bench.settle(delivery, Snoozed(time.time()))
    [copy] = await bench.copies()
    assert copy.properties.headers[HEADER_ATTEMPT] == 4
    assert copy.properties.headers["mine"] == 1
    assert HEADER_HISTORY not in copy.properties.headers


async def test_the_history_keeps_the_last_errors_and_not_all_their_words(bench):
    """A message must not grow with each run until no frame can hold it."""
    properties = Properties()
    for attempt in range(1, 101):
        failure = Failure("failed", f"{attempt} " + "x" * 5000, attempt=attempt)
        properties = retried(properties, failure, attempt + 1, 1.0)
    history = history_of(properties.headers)
    assert [f.attempt for f in history] == list(range(91, 101))
    assert max(len(f.message) for f in history) == 300


async def test_a_redelivery_of_what_was_replaced_is_known(bench):
    """Its ack was lost with the connection: the copy is on its way, and this is one too many."""
    given = ours("7", body=b"1")
    settling = bench.settle(bench.hand.give(**given), Retried(FAILURE, 0.0))
    await turns()
    bench.wire.confirm(1)
    [copy] = await bench.copies()
    await settling
    knows = bench.settled.knows
    assert knows(bench.hand.give(redelivered=True, **given))
    assert not knows(bench.hand.give(**given))
    assert not knows(bench.hand.give(redelivered=True, **{**given, "message_id": own_id("8")}))
    assert not knows(bench.hand.give(redelivered=True, **{**given, "body": b"2"}))
    assert not knows(bench.hand.give(copy.properties, redelivered=True, body=b"1"))


async def test_a_redelivery_of_what_was_done_on_a_lost_connection_is_known(bench):
    """The handler has run, and need not again."""
    given = ours("7", body=b"1")
    delivery = bench.hand.give(**given)
    done = bench.hand.give(**{**given, "message_id": own_id("8")})
    bench.settlement.settle(done, Done())
    bench.hand.link.lose()
    await turns()
    bench.settlement.settle(delivery, Done())
    async with Hand() as again:
        assert bench.settled.knows(again.give(redelivered=True, **given))
        other = {**given, "message_id": own_id("8")}
        assert not bench.settled.knows(again.give(redelivered=True, **other))


async def test_only_the_last_ones_are_remembered(bench, monkeypatch):
    """Memory stays bounded."""
    monkeypatch.setattr(settled_module, "REMEMBERED", 2)
    for name in "abc":
        bench.settled.remember(bench.hand.give(**ours(name)))
    known = [bench.settled.knows(bench.hand.give(redelivered=True, **ours(name))) for name in "abc"]
    assert known == [False, True, True]
    bench.settled.remember(bench.hand.give(type="job", message_id=None))
    assert not bench.settled.knows(bench.hand.give(message_id=None, type="job", redelivered=True))


def refusing(fate, *_, **__):
    fate.set_exception(Unroutable("no queue"))


def too_large(bench, number):
    """RabbitMQ closes the channel of a message over it."""
    message = bench.wire.published()[number]
    error = RuntimeError("PRECONDITION_FAILED - message size 17825792 is larger than ...")
    bench.wire.channels[message.channel - 1].refuse(error)


@pytest.mark.parametrize(
    ("outcome", "due"),
    [(Rejected(FAILURE), None), (Retried(FAILURE, 0.0), 0), (Parked(FAILURE), None)],
)
async def test_a_copy_that_is_refused_for_good_is_left_to_rabbitmq(bench, outcome, due, caplog):
    """It is tried alone, a few times: then RabbitMQ puts the original into the dead letters."""
    bench.waiting.declares = True
    other = bench.hand.give(type="job")
    delivery = bench.hand.give(type="job", message_id=own_id("bad"))
    settling = bench.settle(delivery, outcome)
    await turns()
    for number in range(1 + replacing_module.REFUSALS):
        assert not settling.done()
        assert len(await bench.copies()) == number + 1
        too_large(bench, number)
        while not settling.done() and len(await bench.copies()) == number + 1:
            pass
    assert await settling == Rejected(FAILURE)
    assert await bench.hand.settlements() == ["reject 2"]
    assert "dead-lettered by RabbitMQ" in caplog.text
    assert bench.restored == 1
    channels = {copy.channel for copy in await bench.copies()}
    settling = bench.settle(other, Rejected(FAILURE))
    shared = (await bench.copies())[-1]
    assert shared.channel not in channels
    bench.wire.say(commands.Basic.Ack(shared.number), shared.channel)
    await settling


async def test_a_queue_that_may_drop_what_is_rejected_keeps_it(bench, monkeypatch):
    """It was not declared here, so nobody knows whether it has dead letters: the job goes back."""
    monkeypatch.setattr(replacing_module, "KEPT", 0.0)
    settling = bench.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    await turns()
    too_large(bench, 0)
    await turns()
    too_large(bench, 1)
    assert isinstance(await settling, Released)
    assert await bench.hand.settlements() == ["give back 1"]


async def test_a_copy_that_is_not_taken_gives_its_slot_back(bench, monkeypatch, caplog):
    """It is tried on beside other jobs, and settled when it is confirmed."""
    monkeypatch.setattr(replacing_module, "SLOT_TIME", 0.01)
    delivery = bench.hand.give(type="job")
    outcome = Rejected(FAILURE)
    assert await bench.settle(delivery, outcome) is outcome
    assert delivery.settled
    assert "slot freed" in caplog.text
    assert await bench.hand.settlements() == []
    bench.wire.confirm(1)
    assert await bench.hand.settlements() == ["ack 1"]
    bench.settlement.leave()
    await turns()
    assert await bench.hand.settlements() == ["ack 1"]


async def test_what_is_tried_beside_other_jobs_is_given_back_when_the_worker_stops(
    bench, monkeypatch
):
    """Its copy may have arrived: then it is there twice, never not at all."""
    monkeypatch.setattr(replacing_module, "SLOT_TIME", 0.01)
    await bench.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    bench.settlement.leave()
    assert await bench.hand.settlements() == ["give back 1"]


async def test_a_bare_address_for_direct_replies_stays_behind(bench):
    """RabbitMQ closes the channel over it: only who publishes a request may say so."""
    bench.settle(bench.hand.give(type="job", reply_to="amq.rabbitmq.reply-to"), Rejected(FAILURE))
    bench.settle(bench.hand.give(reply_to="amq.rabbitmq.reply-to.x"), Rejected(FAILURE))
    copies = await bench.copies()
    assert [c.properties.reply_to for c in copies] == [None, "amq.rabbitmq.reply-to.x"]


async def test_cancelled_while_its_copy_is_on_its_way_the_original_is_given_back(bench):
    """The copy may have arrived: then it is there twice, never not at all."""
    delivery = bench.hand.give(type="job")
    settling = bench.settle(delivery, Rejected(FAILURE))
    assert len(await bench.copies()) == 1
    settling.cancel()
    await asyncio.wait([settling])
    assert settling.cancelled()
    bench.wire.confirm(1)
    assert await bench.hand.settlements() == ["give back 1"]


async def test_cancelled_in_its_pause_the_original_is_given_back_at_once(bench, monkeypatch):
    """A worker that stops does not wait for it."""
    monkeypatch.setattr(replacing_module, "LONGEST_PAUSE", 3600.0)
    settling = bench.settle(bench.hand.give(type="job"), Rejected(FAILURE))
    await turns()
    bench.wire.confirm(1, acked=False)
    assert await bench.hand.settlements() == []
    settling.cancel()
    await asyncio.wait([settling])
    assert await bench.hand.settlements() == ["give back 1"]


async def test_what_was_given_back_by_force_meanwhile_is_not_settled_again(bench):
    """A stopping worker does not wait for the confirm; whichever comes first counts."""
    delivery = bench.hand.give(type="job")
    settling = bench.settle(delivery, Rejected(FAILURE))
    await turns()
    delivery.release()
    bench.wire.confirm(1)
    await settling
    assert await bench.hand.settlements() == ["give back 1"]


async def test_of_a_lost_connection_nothing_is_copied(bench):
    """RabbitMQ delivers it again: a copy now would be one too many."""
    delivery = bench.hand.give(type="job")
    bench.hand.link.lose()
    await turns()
    assert delivery.stale
    outcome = await bench.settle(delivery, Rejected(FAILURE))
    assert isinstance(outcome, Released)
    assert await bench.copies() == []
    assert delivery.settled


async def test_of_a_lost_connection_an_ack_goes_nowhere(bench):
    """And raises nothing: the job is done, and will be done again."""
    delivery = bench.hand.give()
    bench.hand.link.lose()
    await turns()
    assert bench.settlement.settle(delivery, Done()) is None
    assert await bench.hand.settlements() == []


async def test_a_delivery_is_not_settled_twice(bench):
    """A second outcome is a bug of ours, and is seen."""
    delivery = bench.hand.give()
    bench.settlement.settle(delivery, Done())
    with pytest.raises(AssertionError, match="settled twice"):
        bench.settlement.settle(delivery, Released("stop"))
    assert await bench.hand.settlements() == ["ack 1"]


async def test_one_job_that_cannot_be_put_aside_does_not_hold_up_the_others(bench):
    """Each waits for its own confirm."""
    first, second = bench.hand.give(type="a"), bench.hand.give(type="b")
    settling = [bench.settle(first, Rejected(FAILURE)), bench.settle(second, Rejected(FAILURE))]
    await turns()
    bench.wire.confirm(2)
    assert isinstance(await settling[1], Rejected)
    assert not settling[0].done()
    assert await bench.hand.settlements() == ["ack 2"]


@pytest.mark.parametrize(
    ("version", "count", "copied"),
    [((3, 10, 8), 9, False), ((3, 10, 8), 10, True), ((4, 2, 0), 10, True), ((4, 3, 6), 19, False)],
)
async def test_being_given_back_often_is_no_reason_for_the_dead_letters(
    monkeypatch, version, count, copied
):
    """Up to 4.2 the broker counts it towards the limit (20 here): from half of it on, a copy that
    was never given back goes to the end of the queue, and the original is acked."""
    async with Hand(version=version) as hand:
        bench = Bench(hand)
        await turns()
        delivery = hand.give(
            redelivered=True,
            expiration="5000",
            headers={"x-delivery-count": count, HEADER_DUE: 5},
        )
        settling = bench.settlement.settle(delivery, Released("stop"))
        if not copied:
            assert settling is None
            assert await hand.settlements() == ["give back 1"]
        else:
            task = asyncio.ensure_future(settling)
            [copy] = await bench.copies()
            assert (copy.routing_key, copy.properties.expiration) == ("queue", "5000")
            assert told_by(copy) == {HEADER_DUE: 5}
            assert await hand.settlements() == []
            bench.wire.confirm(1)
            assert await task == Released("stop")
            assert await hand.settlements() == ["ack 1"]
        await bench.end()


async def test_a_copy_that_is_not_confirmed_is_given_back_after_all():
    """Refused by the broker, or cut short at the end of the worker's time."""
    async with Hand(version=(3, 10, 8)) as hand:
        bench = Bench(hand)
        await turns()
        for number, end in enumerate(("refused", "cancelled"), 1):
            delivery = hand.give(redelivered=True, headers={"x-delivery-count": 15})
            task = bench.settle(delivery, Released("stop"))
            await bench.copies()
            if end == "refused":
                bench.wire.confirm(1, acked=False)
            else:
                task.cancel()
            assert await task == Released("stop")
            assert (await hand.settlements())[-1] == f"give back {number}"
        await bench.end()


async def test_what_rabbitmq_took_back_while_it_ran_is_known_when_it_comes_again(bench):
    """Its channel lives, and its ack counts no more: RabbitMQ from 4.3, after the consumer
    timeout."""
    first = bench.hand.give()
    first.lose()
    assert bench.settlement.settle(first, Done()) is None
    assert bench.settled.knows(bench.hand.give(redelivered=True))


async def test_what_was_taken_back_and_failed_is_left_to_its_redelivery(bench):
    """A copy now would be one too many."""
    first = bench.hand.give()
    first.lose()
    outcome = await bench.settle(first, Rejected(FAILURE))
    assert isinstance(outcome, Released)
    assert await bench.copies() == []
    assert not bench.settled.knows(bench.hand.give(redelivered=True))


@pytest.mark.parametrize("outcome", [Done(), Answered(FAILURE), Cancelled(), Released("stop")])
async def test_what_was_accepted_is_acked_before_and_settled_once(bench, outcome):
    """RabbitMQ is told nothing more, whatever comes of it and whatever becomes of the channel."""
    delivery = bench.hand.give()
    bench.settlement.accept(delivery)
    assert await bench.hand.settlements() == ["ack 1"]
    assert (delivery.accepted, delivery.settled) == (True, False)
    delivery.lose()
    assert not delivery.stale
    assert bench.settlement.settle(delivery, outcome) is None
    assert delivery.settled
    assert await bench.hand.settlements() == ["ack 1"]
    assert await bench.copies() == []
    with pytest.raises(AssertionError, match="twice"):
        delivery.ack()


async def test_the_ack_is_on_its_way_before_the_job_runs(bench):
    """Not at the end of the turn of the event loop."""
    delivery = bench.hand.give()
    delivery.accept()
    assert len(bench.hand.wire.settlements()) == 1


async def test_the_copy_of_what_was_accepted_is_tried_for_as_long_as_it_takes(bench, monkeypatch):
    """There is no original to give back: neither on a lost connection nor after its time."""
    monkeypatch.setattr(replacing_module, "KEPT", 0.0)
    delivery = bench.hand.give(body=b"1", type="job")
    bench.settlement.accept(delivery)
    settling = bench.settle(delivery, Rejected(FAILURE))
    await turns()
    bench.hand.link.lose()
    for tag in (1, 2, 3):
        bench.wire.confirm(tag, acked=False)
        again = (await bench.copies())[-1]
        assert again.body == b"1"
        assert not settling.done()
    bench.wire.say(commands.Basic.Ack(again.number), again.channel)
    assert await settling == Rejected(FAILURE)
    assert bench.restored == 0


async def test_what_was_accepted_is_known_if_it_comes_again(bench):
    """Its ack was lost with the connection: it does not run again here."""
    delivery = bench.hand.give(**ours())
    bench.settlement.accept(delivery)
    again = bench.hand.give(**ours(), redelivered=True)
    assert not bench.settled.knows(again)  # its channel is there, so the ack has arrived
    bench.hand.link.lose()
    await turns()
    assert bench.settled.knows(again)


def with_callback(bench, delivery, outcome):
    """The task that waits for its settlement, with a callback to the queue ``other``."""
    bench.settlement._callbacks = lambda *_: [Copy(Properties(type="next"), b"7", "other")]
    settling = bench.settlement.settle(delivery, outcome, None, callbacks=True)
    task = asyncio.ensure_future(settling)
    bench.tasks.append(task)
    return task


@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
async def test_a_job_with_a_callback_does_not_run_again_for_a_lost_connection(bench, when):
    """Its callback is sent all the same: it need not run again, and is known when it comes."""
    delivery = bench.hand.give(**ours())
    if when == "before":
        bench.hand.link.lose()
        await turns()
    settling = with_callback(bench, delivery, Done())
    [copy] = await bench.copies()
    assert copy.routing_key == "other"
    if when == "meanwhile":
        bench.hand.link.lose()
        await turns()
        bench.wire.confirm(1, acked=False)
        [_, copy] = await bench.copies()
    bench.wire.say(commands.Basic.Ack(copy.number), copy.channel)
    assert await settling == Done()
    if when == "after":
        bench.hand.link.lose()
        await turns()
    async with Hand() as again:
        assert bench.settled.knows(again.give(redelivered=True, **ours()))


async def test_a_callback_is_sent_though_its_dead_letter_is_refused(bench):
    """RabbitMQ puts the original into the dead letters, and that last."""
    bench.waiting.declares = True
    settling = with_callback(bench, bench.hand.give(type="job"), Rejected(FAILURE))
    for number in range(1 + replacing_module.REFUSALS):
        while len(await bench.copies()) == number:
            pass
        too_large(bench, number)
    while len(await bench.copies()) < 4:
        pass
    assert await bench.hand.settlements() == []
    copy = (await bench.copies())[-1]
    assert copy.routing_key == "other"
    bench.wire.say(commands.Basic.Ack(copy.number), copy.channel)
    assert await settling == Rejected(FAILURE)
    assert await bench.hand.settlements() == ["reject 1"]


async def test_a_copy_of_what_was_accepted_that_is_given_up_is_told(bench, caplog):
    """There is no original that could come again."""
    delivery = bench.hand.give(type="job")
    bench.settlement.accept(delivery)
    settling = with_callback(bench, delivery, Done())
    await turns()
    settling.cancel()
    await asyncio.wait([settling])
    [line] = [r for r in caplog.records if r.message == "copy lost, job runs at most once"]
    assert line.__dict__["target"] == "other"
