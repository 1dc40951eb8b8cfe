"""The recorder inside a web tier: kept running while RabbitMQ or the store is unreachable.

Changes when keeping it running does.
"""

import asyncio
import logging
from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, StoreUnavailable
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.recorder import Recorder

if TYPE_CHECKING:
    from amqpjobs.app import App

log = logging.getLogger("amqpjobs.web")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
"""Seconds before it is tried again; they double."""


class Recording:
    """Runs a recorder, again and again if it must.

    Args:
        app: whose settings say where RabbitMQ and the store are.

    Attributes:
        problem: why nothing is recorded, if so.
    """

    def __init__(self, app: "App") -> None:
        self._app = app
        self.problem: str | None = None
        self._recorder: Recorder | None = None
        self._tried = asyncio.Event()

    @property
    def stalled(self) -> bool:
        """Whether it holds events and writes none."""
        return self._recorder is not None and self._recorder.stalled()

    async def check(self) -> None:
        """See that the store can be used; one that is only away is waited for.

        Raises:
            ConfigurationError: it cannot be, or is behind; says what to do.
        """
        try:
            store = await open_store(self._app.settings)
        except StoreUnavailable as error:
            log.warning("store unreachable, starting without it", extra={"error": str(error)})
        else:
            await store.close()

    async def tried(self, patience: float) -> None:
        """Wait for the recorder to begin, or to fail once, but no longer than that (seconds): what
        is told before it has a queue on the broker is told to nobody."""
        try:
            async with asyncio.timeout(patience):
                await self._tried.wait()
        except TimeoutError:
            log.warning("recorder not ready yet")

    def _began(self, started: "asyncio.Future[None]") -> None:
        self._tried.set()
        if not started.cancelled() and started.exception() is None:
            self.problem = None

    async def run(self) -> None:
        """Record until cancelled."""
        pause = FIRST_PAUSE
        while True:
            recorder = self._recorder = Recorder(self._app.settings)
            started = asyncio.ensure_future(recorder.started())
            started.add_done_callback(self._began)
            try:
                await recorder.run()
            except (BrokerUnavailable, StoreUnavailable) as error:
                if isinstance(error, StoreUnavailable):
                    self.problem = "the store of statuses cannot be used, and nothing is recorded"
                log.warning("recorder could not start, trying again", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, pause * 2)
            except AmqpJobsError as error:
                self.problem = "events are not recorded; the log says why"
                log.error("recorder failed", extra={"error": str(error)})  # noqa: TRY400 - the error says it
                return
            finally:
                started.cancel()
