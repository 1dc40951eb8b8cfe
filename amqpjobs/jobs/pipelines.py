"""The durable job that runs a pipeline: one call after the other, groups side by side.

A result is passed to the next job as the stored JSON. Changes when a pipeline runs in another way;
`amqpjobs.jobs.message.pipeline` has the plan.
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
"""A placeholder: a pipeline runs on the queue of its first message."""


def pipeline_job(name: str, find: Find, app: Enqueuer) -> Definition:
    """The job of this name that runs pipelines.

    Args:
        name: has the shape of the result.
        find: finds the jobs of the app.
        app: sends messages.
    """
    kept: list[bool | float] = []
    hint = _hint(name.removeprefix(PIPELINE).removeprefix("/"), find, kept)

    async def pipeline(ctx: Context, plan: dict[str, Any]) -> Any:
        if not has_store():
            raise refusal("a pipeline")
        try:
            _check(plan)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Reject(f"the plan of the pipeline is malformed: {error}") from error
        return load_result(made, await _run(ctx, plan, ""))

    pipeline.__annotations__ = {"ctx": Context, "plan": dict[str, Any], "return": hint}
    keep = kept[0] if kept and all(kept) else False
    made = Definition(pipeline, NOWHERE, app, name=name, durable=True, keep_result=keep)
    return made


def _check(plan: dict[str, Any]) -> None:
    """Check a plan before it runs. Any program that may publish can have written it.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: the plan is malformed.
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
        place: the prefix of the numbers of its steps.
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
    """The annotation of a result of this shape. Results of unknown jobs are plain JSON.

    Args:
        kept: a list to which the ``keep_result`` of each job is added.
    """
    if shape.startswith("(") and shape.endswith(")"):
        return tuple[tuple(_hint(each, find, kept) for each in _split(shape[1:-1]))]  # type: ignore[misc]
    if shape.startswith("[") and shape.endswith("]"):
        return list[_hint(shape[1:-1], find, kept)]  # type: ignore[misc]
    known = find(shape)
    kept.append(False if known is None else known.keep_result)
    return Any if known is None else without_verdicts(known.result_hint)


def _split(shapes: str) -> list[str]:
    """Split at the commas outside of brackets."""
    found, depth, start = list[str](), 0, 0
    for at, character in enumerate(shapes):
        depth += (character in "([") - (character in ")]")
        if character == "," and not depth:
            found.append(shapes[start:at].strip())
            start = at + 1
    return [*found, shapes[start:].strip()]
