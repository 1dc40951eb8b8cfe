"""Responds to operators: what the control exchange asks of a worker.

Changes when an operator can ask something else of a running worker.
"""

import logging
import time
from functools import partial

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.background import BackgroundTask
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.unconfirmed_publication import Notice, Notices
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.message.cancellation import answer_body, reason_in
from amqpjobs.jobs.message.properties import (
    CANCEL_JOB,
    HOLDS_CHANGED,
    INSPECT,
    JSON,
    TRANSIENT,
    Properties,
)
from amqpjobs.worker.cancelled_jobs import CancelledJobs
from amqpjobs.worker.description import Described, describe, measured_lag, name_of_worker
from amqpjobs.worker.holds import MOST_WAITING, Holds

log = logging.getLogger("amqpjobs.worker")

ANSWERS = "amq.gen-"
"""What the names of queues begin with that an answer may go to: RabbitMQ gives them, to queues of
one connection. A forged ``reply_to`` must not enqueue anything."""


class Operating:
    """Responds to operators' requests.

    Args:
        app: its name; requests to the workers of other apps are theirs.
        holds: looks at what operators have set.
        link: the publishing connection: during an alarm there is no answer, and acks go on.
        parts: what is described.
        cancelled: ends cancelled jobs.
    """

    def __init__(
        self, app: str, holds: Holds, link: Link, parts: Described, cancelled: CancelledJobs
    ) -> None:
        self._cancelled = cancelled
        self._app = app
        self._holds = holds
        self._parts = parts
        self._notices = Notices(link)
        self._describing: BackgroundTask | None = None
        self._asked: list[HeaderView] = []
        self._since = time.time()

    def __repr__(self) -> str:
        return f"<Operating of {self._app}>"

    def told(self, header: HeaderView, body: bytes) -> None:
        """A message of the control exchange that is no cancellation."""
        if header.type == HOLDS_CHANGED:  # by whichever app: the queue is the same
            self._holds.look_again(partial(self._answer, header, name_of_worker().encode()))
        elif header.type == CANCEL_JOB and header.app_id == self._app:
            self._cancel(header, body)
        elif header.type == INSPECT and header.app_id == self._app:
            if len(self._asked) >= MOST_WAITING:
                return
            self._asked.append(header)
            if self._describing is None:
                self._describing = BackgroundTask(self._describe, "amqpjobs description")

    def _cancel(self, header: HeaderView, body: bytes) -> None:
        job_id = header.message_id
        try:
            reason = reason_in(body)
        except DecodeError as error:
            log.debug("unreadable cancellation dropped", extra={"error": str(error)})
            return
        if job_id:
            found = self._cancelled.cancel(job_id, reason)
            self._answer(header, answer_body(name_of_worker(), found))

    async def _describe(self) -> None:
        try:
            lag = await measured_lag()
        finally:
            self._describing = None
        asked, self._asked = self._asked, []
        text = describe(self._parts, self._since, lag)
        for header in asked:
            self._answer(header, text)

    def _answer(self, header: HeaderView, body: bytes) -> None:
        reply_to = header.reply_to
        if reply_to is None or not reply_to.startswith(ANSWERS):
            return
        properties = Properties(
            content_type=JSON,
            delivery_mode=TRANSIENT,
            correlation_id=header.correlation_id,
            type=header.type,
            app_id=self._app,
        )
        self._notices.send(Notice("", reply_to, properties, body))

    async def close(self) -> None:
        """Let the last answers leave."""
        if self._describing is not None:
            await self._describing.stop()
        await self._notices.close()
