"""A program of Celery that sends tasks and waits for their results, as its standard input says.

A line in is a JSON object with `do`; a line out is its answer.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from celery import chain, group
from celery.result import AsyncResult
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

from tests.support.celery_app import QUORUM, app

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


def declare() -> None:
    """As Celery's worker does at its start."""
    with app.connection_for_write() as connection:
        queue = app.amqp.queues["celery"]
        queue.bind(connection.default_channel).declare()
        if QUORUM:
            declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
            bind_queue_to_native_delayed_delivery_exchange(connection, queue)


def remember(result: AsyncResult) -> str:
    RESULTS[result.id] = result
    return str(result.id)


def answer(asked: dict[str, Any]) -> Any:
    match asked["do"]:
        case "send":
            args, kwargs = asked.get("args", []), asked.get("kwargs", {})
            name, options = asked["task"], options_of(asked)
            return remember(app.tasks[name].apply_async(args, kwargs, **options))
        case "special":
            when, data = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), b"\xff"
            given = (when, when.date(), Decimal("1.5"), data)
            return remember(app.tasks["shop.tasks.show"].apply_async(given))
        case "declare":
            return declare()
        case "chord":  # the backend `rpc://` has none: as another one would send its header
            body = app.tasks["shop.tasks.add"].s(1)
            return remember(app.send_task("shop.tasks.add", (1, 2), chord=body))
        case "chain":
            return remember(chain(*map(signature, asked["calls"]))())
        case "group":
            made = group(*map(signature, asked["calls"]))()
            return made.get(timeout=20)
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
