"""Celery on both sides: jobs for its producers, and tasks for its workers.

See the guide, "Move from Celery one side at a time". Celery itself is not needed.
"""

from amqpjobs.contrib.celery.client import BlockingCeleryTasks, CeleryTasks
from amqpjobs.contrib.celery.options import TaskOptions
from amqpjobs.contrib.celery.task import CeleryTask

__all__ = ["BlockingCeleryTasks", "CeleryTask", "CeleryTasks", "TaskOptions"]
