"""A program of Celery that sends tasks and waits for their results, as its standard input says.

A line in is a JSON object with `do`; a line out is its answer.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import chain, group
from celery.result import AsyncResult

from tests.support.celery_app import app

RESULTS: dict[str, AsyncResult] = {}


def signature(call: dict[str, Any]) -> Any:
    kind = "si" if call.get("immutable") else "s"
    return getattr(app.tasks[call["task"]], kind)(*call.get("args", ()), **call.get("kwargs", {}))


def options_of(asked: dict[str, Any]) -> dict[str, Any]:
    options = dict(asked.get("options", {}))
    if "eta" in options:
        options["eta"] = datetime.now(UTC) + timedelta(seconds=options["eta"])
    for name in ("link", "link_error"):
        if name in options:
            options[name] = signature(options[name])
    return options


def remember(result: AsyncResult) -> str:
    RESULTS[result.id] = result
    return str(result.id)


def answer(asked: dict[str, Any]) -> Any:
    match asked["do"]:
        case "send":
            args, kwargs = asked.get("args", []), asked.get("kwargs", {})
            name, options = asked["task"], options_of(asked)
            return remember(app.tasks[name].apply_async(args, kwargs, **options))
        case "chain":
            return remember(chain(*map(signature, asked["calls"]))())
        case "group":
            made = group(*map(signature, asked["calls"]))()
            return [remember(each) for each in made.children]
        case "get":
            try:
                return {"value": RESULTS[asked["id"]].get(timeout=asked.get("timeout", 20))}
            except Exception as error:
                kind = type(error)
                return {
                    "raised": kind.__name__,
                    "module": kind.__module__,
                    "args": list(error.args),
                }
        case _:
            raise ValueError(asked)


for line in sys.stdin:
    sys.stdout.write(json.dumps(answer(json.loads(line)), default=repr) + "\n")
    sys.stdout.flush()
