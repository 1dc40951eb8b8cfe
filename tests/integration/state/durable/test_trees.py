"""Random trees of durable jobs, with failures, duplicates and deaths, against a model in plain
Python: each ends as if nothing had happened, or is undone, and none is stuck."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from amqpjobs import App, Context, Reject, Retry
from amqpjobs.jobs.outcome import Outcome, Released
from amqpjobs.state.durable.values import CANCELLED, DONE, FAILED, UNDONE, WAITING
from amqpjobs.state.memory import memory_of
from amqpjobs.state.outbox import relay
from amqpjobs.state.store.tables import durable, steps
from amqpjobs.worker.durable import DurableJobs
from amqpjobs.worker.run import Run

EXAMPLES = 25
MOST_DEATHS = 6

LEAVES = st.sampled_from(["step", "call", "sleep", "call", "step", "bad step", "bad call"])
NODES = st.fixed_dictionaries(
    {"together": st.booleans(), "fails": st.sampled_from([False] * 4 + [True])}
)


def tree(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """A durable job, whose parts are steps, sleeps, calls, and at most so deep others like it."""
    part: st.SearchStrategy[Any] = LEAVES if depth == 1 else st.one_of(LEAVES, tree(depth - 1))
    parts = st.lists(part, min_size=1, max_size=4)
    return st.tuples(NODES, parts).map(lambda both: both[0] | {"parts": both[1]})


def expected(spec: dict[str, Any]) -> int | None:
    """How many steps and calls are done below it; None if it fails."""
    total = 0
    for part in spec["parts"]:
        done = expected(part) if isinstance(part, dict) else model_of(part)
        if done is None:
            return None
        total += done
    return None if spec["fails"] else total


def model_of(part: str) -> int | None:
    """The same for what is no durable job."""
    return None if part.startswith("bad") else int(part != "sleep")


@dataclass
class World:
    """What jobs have done, in the order in which they did it."""

    tokens: Any = field(default_factory=count)
    seen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    undone: list[str] = field(default_factory=list)

    async def do(self, path: str, *, good: bool) -> int:
        """What a step or a call does."""
        if not good:
            raise ValueError(path)
        return next(self.tokens)


def an_app(world: World) -> tuple[App, Any]:
    """Jobs that do what a tree says. What a step or call has returned is new in each run of it, so
    that a handler that gets two different results of one has had it done twice."""
    app = App("trees", retry=Retry(attempts=1))

    @app.job(queue="parts")
    async def call(path: str, good: bool) -> int:
        return await world.do(path, good=good)

    @app.job(queue="parts")
    async def back(path: str) -> None:
        world.undone.append(path)

    async def one(ctx: Context, path: str, n: int, part: Any) -> int:
        name, inner = str(n), f"{path}.{n}"
        undo, total = back.message(inner), 1
        if part == "sleep":
            await ctx.sleep(name, timedelta(hours=1))
            return 0
        if isinstance(part, dict):
            total, token = await ctx.call(name, node, inner, part, undo=undo)
        elif part.endswith("step"):
            token = await ctx.step(name, world.do, inner, good=part == "step", undo=undo)
        else:
            token = await ctx.call(name, call, inner, part == "call", undo=undo)
        world.seen[inner].add(token)
        return total

    @app.job(queue="nodes", durable=True)
    async def node(ctx: Context, path: str, spec: dict[str, Any]) -> list[int]:
        parts = [one(ctx, path, n, part) for n, part in enumerate(spec["parts"])]
        totals = await (asyncio.gather(*parts) if spec["together"] else in_turn(parts))
        if spec["fails"]:
            raise Reject("it is to fail")
        return [sum(totals), next(world.tokens)]

    return app, node


async def in_turn(parts: list[Coroutine[Any, Any, int]]) -> list[int]:
    """One after the other; what is not begun is closed."""
    try:
        return [await part for part in parts]
    finally:
        for part in parts:
            part.close()


class Deaths:
    """Workers that die before a run is stored, or between that and its ack; and messages that are
    sent twice, since a relay died before it had deleted them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.had: set[str] = set()
        self.end, self.claim = DurableJobs.end, relay.claim

    async def ended(self, jobs: DurableJobs, run: Run, outcome: Outcome) -> Outcome:
        """In place of `DurableJobs.end`."""
        job_id = "" if run.context is None else run.context.job_id
        lot = self.random.random()
        if lot > 0.3 or job_id in self.had or len(self.had) >= MOST_DEATHS:
            return await self.end(jobs, run, outcome)
        self.had.add(job_id)
        if lot < 0.15 and run.durable is None:
            return Released("died before it was stored")
        await self.end(jobs, run, Released("died") if lot < 0.15 else outcome)
        return Released("died before its ack")

    def claimed(self, *args: Any) -> list[Any]:
        """In place of the claim of a relay."""
        rows = self.claim(*args)
        return [row for row in rows for _ in range(1 + (self.random.random() < 0.2))]


def everything(connection: Connection) -> tuple[list[Any], list[Any]]:
    """All rows of jobs, and of steps."""
    return list(connection.execute(select(durable))), list(connection.execute(select(steps)))


def check_undone(world: World, mine: list[Any], path: str) -> None:
    """All that was done, and can be, is taken back, the last of it first."""
    done = [step for step in mine if step.undo is not None and step.state == DONE]
    assert {step.undo_state for step in done} <= {DONE}
    done.sort(key=lambda step: (step.ended_at, step.n), reverse=True)
    wanted = [f"{path}.{step.name}" for step in done]
    found = dict.fromkeys(each for each in world.undone if each in wanted)
    assert list(found) == wanted


def check(world: World, jobs: list[Any], rows: list[Any]) -> None:
    """What holds of all jobs of a tree when all is over."""
    assert all(len(tokens) == 1 for tokens in world.seen.values()), "nothing is done twice"
    assert not [step for step in rows if step.state == WAITING], "nothing is waited for"
    paths = {jobs[0].job_id: "0"}
    left = list(rows)
    while left:  # parents before their children
        step = next(each for each in left if each.job_id in paths)
        left.remove(step)
        if step.child_id is not None:
            paths[step.child_id] = f"{paths[step.job_id]}.{step.name}"
    for job in jobs:
        mine = [step for step in rows if step.job_id == job.job_id]
        undoable = [step for step in mine if step.undo is not None and step.state == DONE]
        assert job.state in (DONE, FAILED, CANCELLED, UNDONE)
        if job.state == UNDONE:
            check_undone(world, mine, paths[job.job_id])
        else:
            assert not [step for step in mine if step.undo_state is not None]
            assert job.state == DONE or not undoable, "what can be undone is"


async def grow(spec: dict[str, Any], seed: int) -> None:
    """Run a tree to its end."""
    world, deaths = World(), Deaths(seed)
    app, node = an_app(world)

    async def ended(jobs: DurableJobs, run: Run, outcome: Outcome) -> Outcome:
        return await deaths.ended(jobs, run, outcome)

    with patch.object(DurableJobs, "end", ended), patch.object(relay, "claim", deaths.claimed):
        async with app.testing(raise_errors=False) as t:
            handle = await node.later("0", spec)
            # Less than the time after which what is stuck is sent again.
            await t.advance(timedelta(hours=20), timeout=30)
            store = await memory_of(app.client).store()
            jobs, rows = await store.run(everything)
            jobs.sort(key=lambda job: job.job_id != handle.id)
            check(world, jobs, rows)
            wanted = expected(spec)
            if wanted is None:
                assert jobs[0].state in (FAILED, UNDONE)
            else:
                assert jobs[0].state == DONE
                assert json.loads(jobs[0].result)[0] == wanted


@pytest.mark.timeout(180)
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate],
)  # fmt: skip
@given(tree(3), st.integers(0, 2**32))
def test_a_tree_ends_as_its_model_says_whatever_dies(spec: dict[str, Any], seed: int) -> None:
    """Its result is the model's, or it is undone; a result that was seen once stays."""
    asyncio.run(grow(spec, seed))


@pytest.mark.parametrize("seed", range(7836, 7842))
async def test_the_newest_of_two_copies_comes_back_when_its_worker_dies(seed: int) -> None:
    """Although the older one was acked: a tree, and deaths, that were stuck once."""
    inner = {"fails": False, "together": False, "parts": ["call", "step", "call", "bad call"]}
    spec = {
        "together": True,
        "fails": False,
        "parts": [
            {"together": False, "fails": False, "parts": [inner, "bad step", "step"]},
            {
                "together": True,
                "fails": True,
                "parts": [{"fails": False, "together": True, "parts": ["step", "call", "step"]}],
            },
        ],
    }
    await grow(spec, seed)
