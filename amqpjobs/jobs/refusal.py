"""How a step before its handler ends a run. Changes when such a step has more to say."""

from amqpjobs.jobs.outcome import Outcome


class Refused(BaseException):
    """A step ended the job before its handler was called. No `Exception`: it goes through the
    middleware of jobs that wait for their batch, and one that catches errors must not take a job
    that was not started for one that has failed, or is done."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
