"""The gate of one queue: whether one more of its jobs may start now. Pure: the clock is passed in.

Most queues have none. Changes when there is another reason to hold jobs back.
"""

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.jobs.outcome import Outcome
from amqpjobs.jobs.queue.queue import Queue, starts_of
from amqpjobs.worker.flow.kill_switch import Switch, speaks
from amqpjobs.worker.flow.place import Place
from amqpjobs.worker.flow.token_bucket import Bucket

UNTIL_TOLD = float("inf")

LONGEST_HOLD = 30.0
"""Seconds that deliveries are held for a pause that a job asked for. For a longer one they go back
to the queue, where another worker may have them, and nobody waits for their acks."""


class Gate:
    """Asks the queue's kill switch, its rate, and what its jobs said about the future.

    Attributes:
        place: of a singleton queue: what takes it; None for other queues.
        switch: None without one.
        closed_until: seconds of the clock; a job asked for it.
        rests_until: the same, of a pause so long that nothing is held meanwhile.
        held_until: the same, of a pause by an operator; infinite until the operator resumes it.
    """

    def __init__(self, queue: Queue) -> None:
        self._policy = queue.kill_switch
        self.switch = Switch(queue.kill_switch) if queue.kill_switch else None
        starts = starts_of(queue)
        self._bucket = Bucket(starts) if starts else None
        self.place = Place(queue.name) if queue.singleton else None
        self._epochs: dict[Delivery, int] = {}
        self._trial: Delivery | None = None
        self.closed_until = self.rests_until = self.held_until = 0.0

    def wait(self, now: float) -> float:
        """Seconds until the next may start; `UNTIL_TOLD` if it is not a matter of time."""
        switch = self.switch
        if now < self.held_until or (self.place is not None and self.place.taken):
            return UNTIL_TOLD
        if switch is not None and (
            switch.state == "paused" or (switch.state == "trying" and self._trial is not None)
        ):
            return UNTIL_TOLD
        wait = max(0.0, self.closed_until - now)
        return wait if self._bucket is None else max(wait, self._bucket.wait(now))

    def enter(self, delivery: Delivery, now: float) -> None:
        """This one starts."""
        if self.place is not None:
            self.place.enter(delivery)
        if self._bucket is not None:
            self._bucket.take(now)
        if self.switch is not None:
            self._epochs[delivery] = self.switch.epoch
            if self.switch.state == "trying":
                self._trial = delivery

    def left(self, delivery: Delivery, outcome: Outcome | None, now: float) -> bool:
        """This one has ended; None if nobody knows how. Only the first word counts.

        Returns:
            Whether more may start, or fewer, than before.
        """
        epoch = self._epochs.pop(delivery, None)
        if epoch is None or self.switch is None or self._policy is None:
            return False
        tried = delivery is self._trial
        if tried:
            self._trial = None
        failed = None if outcome is None else speaks(self._policy, outcome)
        return (failed is not None and self.switch.run_ended(epoch, failed, now)) or tried

    def close(self, seconds: float, now: float) -> bool:
        """Start nothing for so many seconds.

        Returns:
            Whether that is later than what was said before.
        """
        until = now + seconds
        if until <= self.closed_until:
            return False
        self.closed_until = until
        if seconds > LONGEST_HOLD:
            self.rests_until = until
        return True

    def limit(self, queue: Queue) -> None:
        """Start jobs at the rate of this queue from now on."""
        starts = starts_of(queue)
        self._bucket = Bucket(starts) if starts else None

    def consuming(self, now: float) -> bool | None:
        """Whether the queue is to be consumed: False for not at all, None for one at a time."""
        if now < self.rests_until or now < self.held_until:
            return False
        if self.switch is None or self.switch.state == "consuming":
            return True
        return False if self.switch.state == "paused" else None

    def changes_in(self, now: float) -> float:
        """Seconds after which a queue that is not to be consumed may be."""
        paused = self.switch is not None and self.switch.state == "paused"
        until = self.switch.resumes_at if self.switch is not None and paused else now
        return max(self.rests_until, self.held_until, until) - now
