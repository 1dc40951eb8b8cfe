"""What comes a little before its time is held, in order, in no slot."""

import asyncio
import time

import pytest

from amqpjobs.jobs.message.header_names import HEADER_DUE
from amqpjobs.worker.deferral import LONGEST_HOLD, Deferral
from tests.support.clocks import START, MovedClock
from tests.support.waiting import until
from tests.unit.worker.hand import BROKEN_HEADER, BROKEN_TABLE, Hand


@pytest.fixture
async def hand():
    async with Hand() as made:
        yield made


def due_in(seconds):
    return {HEADER_DUE: round((time.time() + seconds) * 1000)}


async def test_what_is_due_or_says_nothing_is_passed_on_at_once(hand):
    """Nearly all deliveries."""
    passed = []
    deferral = Deferral(passed.append)
    given = [
        hand.give(),
        hand.give(headers={"x": 1}),
        hand.give(headers=due_in(-1)),
        hand.give(headers={HEADER_DUE: "soon"}),
        hand.give(headers=due_in(LONGEST_HOLD + 1)),
        hand.give(header=BROKEN_HEADER),
        hand.give(header=BROKEN_TABLE),
    ]
    for delivery in given:
        deferral.offer(delivery)
    assert passed == given
    assert deferral.take_held() == []


async def test_what_was_delivered_before_goes_another_way(hand):
    """When it is due, as all others."""
    passed, again = [], []
    deferral = Deferral(passed.append, again.append)
    new, old = hand.give(), hand.give(redelivered=True)
    early = hand.give(redelivered=True, headers=due_in(0.05))
    for delivery in (new, old, early):
        deferral.offer(delivery)
    assert (passed, again) == ([new], [old])
    assert deferral.held == (early,)
    await until(lambda: again == [old, early], "the early one is passed on")
    assert passed == [new]


async def test_what_is_early_is_passed_on_when_it_is_due(hand):
    """Never before."""
    passed = []
    deferral = Deferral(lambda delivery: passed.append((delivery, time.time())))
    late, early = hand.give(headers=due_in(0.2)), hand.give(headers=due_in(0.05))
    dues = {d: d.header.headers[HEADER_DUE] / 1000 for d in (late, early)}
    deferral.offer(late)
    deferral.offer(early)
    assert passed == []
    await until(lambda: len(passed) == 2, "both are passed on")
    assert [delivery for delivery, _ in passed] == [early, late]
    assert all(at >= dues[delivery] for delivery, at in passed)
    assert deferral.take_held() == []


async def test_a_clock_that_is_set_back_starts_nothing_early(hand):
    """The timer has run out, the clock on the wall does not say so: it is held on."""
    passed = []
    clock = MovedClock()
    deferral = Deferral(passed.append, clock=clock)
    delivery = hand.give(headers={HEADER_DUE: round((START + 1) * 1000)})
    deferral.offer(delivery)
    ((key, timer),) = clock.timers.items()
    del clock.timers[key]
    clock.now -= 1
    timer()
    assert passed == []
    clock.move(2.1)
    assert passed == [delivery]


async def test_what_is_early_is_due_by_the_clock_of_the_app(hand):
    """A test moves it, and nothing else starts what is held."""
    passed = []
    clock = MovedClock()
    deferral = Deferral(passed.append, clock=clock)
    late, early = (
        hand.give(headers={HEADER_DUE: round((START + seconds) * 1000)}) for seconds in (0.3, 0.2)
    )
    deferral.offer(late)
    deferral.offer(early)
    clock.move(0.19)
    assert passed == []
    clock.move(0.2)
    assert passed == [early, late]


async def test_what_is_held_can_be_taken_back_in_order(hand):
    """A worker that stops gives it back."""
    passed = []
    deferral = Deferral(passed.append)
    held = [hand.give(headers=due_in(seconds)) for seconds in (0.2, 0.1)]
    for delivery in held:
        deferral.offer(delivery)
    assert deferral.take_held() == held
    await asyncio.sleep(0.25)  # a time in which nothing must happen
    assert passed == []
