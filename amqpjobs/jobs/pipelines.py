"""The durable job that runs a pipeline: one call after the other, groups side by side.

Results go from job to job as the JSON that they are stored as. Changes when a pipeline runs in
another way; `amqpjobs.jobs.message.pipeline` has the plan.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from amqpjobs.jobs.annotations import without_verdicts
from amqpjobs.jobs.context import Context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.durable.steps import call_as_json
from amqpjobs.jobs.durable.unstored import has_store, refusal
from amqpjobs.jobs.enqueuer import Enqueuer
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.message.pipeline import PIPELINE, call_in
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.results import load_result
from amqpjobs.jobs.verdicts import Reject

Find = Callable[[str], Definition | None]
"""Finds the definition of a job by its name."""

NOTHING = b"null"

NOWHERE = Queue(PIPELINE)
"""In place of a queue: a pipeline runs on that of its first message."""


def pipeline_job(name: str, find: Find, app: Enqueuer) -> Definition:
    """The job of this name, which runs pipelines.

    Args:
        name: says what the result is.
        find: of the jobs of the app.
        app: sends.
    """
    kept: list[bool | float] = []
    hint = _hint(name.removeprefix(PIPELINE).removeprefix("/"), find, kept)

    async def pipeline(ctx: Context, plan: dict[str, Any]) -> Any:
        if not has_store():
            raise refusal("a pipeline")
        try:
            _check(plan)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Reject(f"the plan of the pipeline makes no sense: {error}") from error
        return load_result(made, await _run(ctx, plan, ""))

    pipeline.__annotations__ = {"ctx": Context, "plan": dict[str, Any], "return": hint}
    keep = kept[0] if kept and all(kept) else False
    made = Definition(pipeline, NOWHERE, app, name=name, durable=True, keep_result=keep)
    return made


def _check(plan: dict[str, Any]) -> None:
    """Look at a plan before any of it runs: anybody who may publish can have written it.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: it makes no sense.
    """
    if not plan["steps"]:
        raise ValueError("it has no steps")
    for n, step in enumerate(plan["steps"]):
        if "group" not in step:
            call_in(step, NOTHING if n else None)
            continue
        for part in step["group"]:
            if "steps" in part:
                _check(part)
            else:
                call_in(part, None)


async def _run(ctx: Context, plan: dict[str, Any], place: str) -> bytes:
    """Run the steps of a plan.

    Args:
        place: what the numbers of its steps begin with.
    """
    result: bytes | None = None
    for n, step in enumerate(plan["steps"], 1):
        result = await _step(ctx, step, f"{place}{n}", result)
    return NOTHING if result is None else result


async def _step(ctx: Context, step: dict[str, Any], place: str, result: bytes | None) -> bytes:
    if "group" in step:
        parts = [
            _run(ctx, part, f"{place}.{n}.")
            if "steps" in part
            else _step(ctx, part, f"{place}.{n}", None)
            for n, part in enumerate(step["group"], 1)
        ]
        return b"[" + b",".join(await asyncio.gather(*parts)) + b"]"
    message = call_in(step, result)
    return await call_as_json(ctx, f"{place} {message.job}"[:LONGEST_NAME], message)


def _hint(shape: str, find: Find, kept: list[bool | float]) -> Any:
    """The annotation of a result of this shape. What is not known here is what JSON has.

    Args:
        kept: how long each of its jobs keeps its result is added to it.
    """
    if shape.startswith("(") and shape.endswith(")"):
        return tuple[tuple(_hint(each, find, kept) for each in _split(shape[1:-1]))]  # type: ignore[misc]
    if shape.startswith("[") and shape.endswith("]"):
        return list[_hint(shape[1:-1], find, kept)]  # type: ignore[misc]
    known = find(shape)
    kept.append(False if known is None else known.keep_result)
    return Any if known is None else without_verdicts(known.result_hint)


def _split(shapes: str) -> list[str]:
    """At the commas that are in no brackets."""
    found, depth, start = list[str](), 0, 0
    for at, character in enumerate(shapes):
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            found.append(shapes[start:at].strip())
            start = at + 1
    return [*found, shapes[start:].strip()]
