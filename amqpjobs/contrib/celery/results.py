"""The messages in which a worker of Celery's ``rpc://`` backend sends the result of a task.

Changes when Celery's results do (`celery.backends.base.Backend._get_result_meta`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from amqpjobs.contrib.celery.headers import text_of
from amqpjobs.contrib.celery.values import plain, read_json, write_json
from amqpjobs.errors import DecodeError

SUCCESS: Final = "SUCCESS"
FAILURE: Final = "FAILURE"
REVOKED: Final = "REVOKED"

FINAL: Final = frozenset({SUCCESS, FAILURE, REVOKED})
"""States after which nothing follows; others are STARTED, RETRY, and a task's own."""


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception as Celery writes it.

    Attributes:
        type: the name of its class.
        message: its arguments, or a text.
        module: where the class is; None for an unknown one.
    """

    type: str
    message: object
    module: str | None

    @property
    def name(self) -> str:
        """As amqpjobs writes it: with the module, but for Python's own."""
        return self.type if self.module in (None, "builtins") else f"{self.module}.{self.type}"

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.message, list | tuple):
            return str(self.message[0]) if len(self.message) == 1 else str(tuple(self.message))
        return str(self.message)


@dataclass(frozen=True, slots=True)
class Result:
    """What a result message says.

    Attributes:
        task_id: whose result.
        status: such as SUCCESS, FAILURE, RETRY, STARTED.
        value: what the task returned, as amqpjobs has it in JSON.
        raised: why it has failed.
    """

    task_id: str | None
    status: str
    value: bytes = b"null"
    raised: Raised | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True)
class Task:
    """Whose result is written.

    Attributes:
        id: of the task.
        group: the id of its group.
        parent_id: of the task that called it.
        children: ids of the tasks that follow.
    """

    id: str
    group: str | None = None
    parent_id: str | None = None
    children: Sequence[str] = ()


def success_body(task: Task, value: bytes, now: float) -> bytes:
    """The body of a result.

    Args:
        task: whose.
        value: what it returned, as JSON.
        now: seconds since the epoch.
    """
    rest = to_json(_meta(task, SUCCESS, now))
    return b'{"result":' + value + b"," + rest[1:]


def failure_body(task: Task, raised: Raised, now: float, status: str = FAILURE) -> bytes:
    """The body that says why there is no result."""
    result = {"exc_type": raised.type, "exc_message": raised.message, "exc_module": raised.module}
    return to_json({"result": result, **_meta(task, status, now)})


def _meta(task: Task, status: str, now: float) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "task_id": task.id,
        "status": status,
        "traceback": None,
        "children": [[[child, None], None] for child in task.children],
        "date_done": datetime.fromtimestamp(now, UTC).isoformat(),
    }
    if task.group is not None:
        meta["group_id"] = task.group
    if task.parent_id is not None:
        meta["parent_id"] = task.parent_id
    return meta


def read_result(data: bytes) -> Result:
    """Read a result message. Any program may have written it.

    Raises:
        DecodeError: it is none.
    """
    meta = read_json(data)
    status = meta.get("status") if isinstance(meta, dict) else None
    if not isinstance(meta, dict) or not isinstance(status, str):
        raise DecodeError("it is no result of Celery: a JSON object with a `status`")
    task_id, result = text_of(meta, "task_id"), meta.get("result")
    if status in (FAILURE, REVOKED):
        return Result(task_id, status, raised=_raised(result))
    return Result(task_id, status, write_json(plain(result)))


def _raised(result: object) -> Raised:
    table = result if isinstance(result, Mapping) else {}
    return Raised(
        text_of(table, "exc_type") or "unknown",
        plain(table.get("exc_message", "it does not say why")),
        text_of(table, "exc_module"),
    )
