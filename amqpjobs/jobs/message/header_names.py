"""The headers ``amqpjobs-*``: their names, what they mean, and what copies keep of them.

Changes when the wire contract gets a header; `amqpjobs.jobs.message.headers` reads and writes them.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from amqpjobs.jobs.message.header_info import HeaderInfo
from amqpjobs.jobs.message.properties import BROKER_HEADERS
from amqpjobs.jobs.message.trace_context import TRACE_PARENT

PREFIX: Final = b"amqpjobs-"
"""The prefix of each name, as bytes of an encoded table."""

HEADER_ATTEMPT: Final = "amqpjobs-attempt"
HEADER_DEADLINE: Final = "amqpjobs-deadline"
HEADER_DUE: Final = "amqpjobs-due"
HEADER_EPOCH: Final = "amqpjobs-epoch"
HEADER_PROGRESS: Final = "amqpjobs-progress"
HEADER_HISTORY: Final = "amqpjobs-history"
HEADER_ERROR: Final = "amqpjobs-error"
HEADER_FIRST_TRY: Final = "amqpjobs-first-try"
HEADER_COPY: Final = "amqpjobs-copy"
HEADER_DROPPED: Final = "amqpjobs-dropped"
HEADER_RETRY: Final = "amqpjobs-retry"
HEADER_RUN_TIMEOUT: Final = "amqpjobs-run-timeout"
HEADER_TAGS: Final = "amqpjobs-tags"
HEADER_ACCEPT: Final = "amqpjobs-accept"
HEADER_CALLBACKS: Final = "amqpjobs-callbacks"
HEADER_TICK: Final = "amqpjobs-tick"
HEADER_PARENT: Final = "amqpjobs-parent"
HEADER_REPLAY: Final = "amqpjobs-replay"
HEADER_STEPS: Final = "amqpjobs-steps"
HEADER_ORIGIN: Final = "amqpjobs-origin"

DUE_ENCODED: Final = HEADER_DUE.encode()
"""Bytes to look for in a table before it is decoded: most messages do not have this header."""

CALLBACKS_ENCODED: Final = HEADER_CALLBACKS.encode()
TICK_ENCODED: Final = HEADER_TICK.encode()
PARENT_ENCODED: Final = HEADER_PARENT.encode()
"""The same for callbacks, ticks, and jobs that a durable job waits for."""

ALL: Final[Mapping[str, HeaderInfo]] = MappingProxyType({
    HEADER_ATTEMPT: HeaderInfo("integer", "which run this is, from 1", 1, 1),
    HEADER_DEADLINE: HeaderInfo(
        "integer", "do not start after this time: milliseconds since the epoch", 0
    ),
    HEADER_DUE: HeaderInfo(
        "integer", "do not start before this time: milliseconds since the epoch", 0
    ),
    HEADER_EPOCH: HeaderInfo("integer", "how often it was replayed from the dead letters", 0, 0),
    HEADER_PROGRESS: HeaderInfo("table", "`fraction` (0 to 1) and `message` of the last run"),
    HEADER_HISTORY: HeaderInfo(
        "list of tables", "errors of earlier runs, oldest first, at most 10"
    ),
    HEADER_ERROR: HeaderInfo("table", "on messages in `.dead` and `.parked`: why"),
    HEADER_FIRST_TRY: HeaderInfo("text", "`traceparent` of the first run"),
    HEADER_COPY: HeaderInfo(
        "text", "a random token; a redelivery of this copy is recognised by it"
    ),
    HEADER_DROPPED: HeaderInfo(
        "list of text", "names of headers that a copy had no room for, or that AMQP cannot hold"
    ),
    HEADER_RETRY: HeaderInfo(
        "table", "`attempts`, `first`, `factor`, `limit`, `jitter` of this job's retries"
    ),
    HEADER_RUN_TIMEOUT: HeaderInfo("integer", "milliseconds that one run may take", 1),
    HEADER_TAGS: HeaderInfo("list of text", "words for people, up to 16 of 64 characters"),
    HEADER_ACCEPT: HeaderInfo("text", "of a request: how its reply may be compressed"),
    HEADER_CALLBACKS: HeaderInfo(
        "table", "`success` and `failure`: jobs that are enqueued when this one has ended"
    ),
    HEADER_TICK: HeaderInfo(
        "table", "of a schedule: `schedule`, `due`, `previous` (milliseconds), `how`, `tz`"
    ),
    HEADER_PARENT: HeaderInfo(
        "table",
        "the durable job that waits for it: `id`, `epoch`, `step`, `part`, `n`. With the part "
        "`chunk` the body is a list of the bodies of several items of a map",
    ),
    HEADER_REPLAY: HeaderInfo(
        "table", "of a replayed durable job: `from`, the step to resume at; without it, restart"
    ),
    HEADER_STEPS: HeaderInfo(
        "list of tables",
        "of a durable job without a store: `name`, `kind`, `mark`, `result`, `cursor` of each step",
    ),
    HEADER_ORIGIN: HeaderInfo(
        "table",
        "on copies of an event: `exchange` and `key` with which it was published, `id` of the job, "
        "`event`, which is the id of the event",
    ),
})  # fmt: skip
"""All of them, as the guide lists them."""

FAILURES: Final = frozenset({HEADER_ERROR, HEADER_HISTORY})
"""Those that hold a `Failure`, which is better shown by itself."""

MAX_ATTEMPT = 1_000_000

MAX_EPOCH = 2**31 - 1

MAX_HISTORY = 10
"""Errors that a message carries with it: what it grows by must stay far below a frame."""

MAX_HISTORY_TEXT = 300
"""Characters of each error's message in the history."""

LONGEST_TOKEN = 200
"""Characters of a token that are taken: other programs may write one."""

LEFT_BEHIND = BROKER_HEADERS | {HEADER_ERROR, HEADER_DUE}

SMALL = 2048
"""Bytes of an entry that a copy which fits no frame keeps. Other programs may have written these
headers: amqpjobs itself writes no larger ones."""

KEPT_FIRST: Final[Mapping[str, int]] = MappingProxyType({
    HEADER_ERROR: SMALL * 4, HEADER_COPY: SMALL, HEADER_ATTEMPT: SMALL, HEADER_DUE: SMALL,
    HEADER_DEADLINE: SMALL, HEADER_EPOCH: SMALL, HEADER_FIRST_TRY: SMALL, TRACE_PARENT: SMALL,
    HEADER_RETRY: SMALL, HEADER_RUN_TIMEOUT: SMALL, HEADER_STEPS: SMALL * 5,
    HEADER_PROGRESS: SMALL, HEADER_TAGS: SMALL * 3, HEADER_CALLBACKS: SMALL * 5,
    HEADER_TICK: SMALL, HEADER_PARENT: SMALL, HEADER_REPLAY: SMALL, HEADER_ORIGIN: SMALL,
})  # fmt: skip
"""What such a copy keeps before the headers of other programs, in this order: bytes of each."""

KEPT_LAST: Final = HEADER_HISTORY
"""What it keeps after them."""
