"""The life of one run: its steps in order, and its slot given back however it ends."""

from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs.jobs.outcome import Done, Outcome, Released
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.executor import Executor
from amqpjobs.worker.run import Run
from tests.unit.worker.hand import Hand


class Parts:
    """The neighbours of an executor; each writes down that it was used."""

    def __init__(self, outcome: Outcome | BaseException, *, gated: bool = False) -> None:
        self.steps: list[str] = []
        self._outcome = outcome
        self.running: dict[Run, Any] = {}
        self.executor = Executor(
            pipeline=SimpleNamespace(
                outcome_of=self._outcome_of, judge=SimpleNamespace(failed_by_us=self._failed)
            ),
            endings=Endings(),
            replying=SimpleNamespace(answer=self._answer),
            settlement=SimpleNamespace(settle=self._settle),
            report=lambda run, outcome: self.steps.append(f"report {outcome.word}"),
            remembered=SimpleNamespace(acked=lambda delivery: None),
            running=self.running,
            intake=SimpleNamespace(gated=gated, finished=lambda: self.steps.append("free")),
            pausing=SimpleNamespace(ended=lambda *_: self.steps.append("gate")),
            outliving=SimpleNamespace(calls={}),
            redeliveries=SimpleNamespace(held={}),
        )

    async def execute(self, run: Run) -> list[str]:
        self.running[run] = None
        await self.executor.execute(run)
        return self.steps

    async def _outcome_of(self, run: Run) -> Outcome:
        self.steps.append("outcome")
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome

    async def _answer(self, run: Run, outcome: Outcome) -> Outcome:
        self.steps.append("reply")
        return outcome

    def _settle(self, delivery: Any, outcome: Outcome, context: Any, *, callbacks: bool) -> None:
        self.steps.append("settle")
        delivery.ack()

    def _failed(self, run: Run, error: BaseException) -> Outcome:
        return Released(str(error))


async def test_the_steps_come_in_this_order() -> None:
    """The gate of a queue is told before the settlement, the observers after it."""
    async with Hand() as hand:
        run = Run(hand.give())
        run.asked = "somewhere"
        parts = Parts(Done(), gated=True)
        told = await parts.execute(run)
        assert told == ["outcome", "gate", "reply", "settle", "report done", "gate", "free"]
        assert not parts.running
        assert await hand.settlements() == ["ack 1"]


async def test_without_a_caller_or_a_gate_there_are_fewer_steps() -> None:
    """The commonest job."""
    async with Hand() as hand:
        told = await Parts(Done()).execute(Run(hand.give()))
        assert told == ["outcome", "settle", "report done", "free"]


async def test_what_was_given_back_by_force_is_settled_no_more() -> None:
    """It was reported then; here its slot is freed."""
    async with Hand() as hand:
        delivery = hand.give()
        delivery.release()
        assert await Parts(Done()).execute(Run(delivery)) == ["outcome", "free"]


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), SystemExit(1)])
async def test_a_bug_of_ours_is_settled_reported_and_frees_its_slot(error: BaseException) -> None:
    """Whatever leaves a step, the job ends once and the event loop goes on."""
    async with Hand() as hand:
        told = await Parts(error).execute(Run(hand.give()))
        assert told == ["outcome", "settle", "report released", "free"]
