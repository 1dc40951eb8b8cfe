"""Emits the event of a dead letter that is a job again. Changes when that event does."""

from amqpjobs.broker.rabbitmq.event_publication import Announcements
from amqpjobs.jobs.message.events import QUEUED
from amqpjobs.jobs.message.events import clock as sequence
from amqpjobs.jobs.message.headers import epoch_of, tags_of
from amqpjobs.jobs.message.properties import Properties


def announce_replay(announcements: Announcements, properties: Properties, queue: str) -> None:
    """Emit it, if events are on and the message says which job it is.

    Args:
        properties: as it was sent back.
        queue: the app's queue.
    """
    job_id, job = properties.message_id, properties.type
    if announcements.enabled and job_id and job:
        epoch = epoch_of(properties.headers)
        tags = tags_of(properties.headers)
        details = {"tags": tags} if tags else None
        announcements.add((job_id, job, queue, QUEUED, epoch, 0, sequence(), 0, details))
