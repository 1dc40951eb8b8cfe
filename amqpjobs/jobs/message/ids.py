"""Ids of jobs that follow from something, so that the same twice is known by its id.

Changes when what an id follows from does.
"""

import json
import uuid

NAMESPACE = uuid.UUID("5f0e3a52-6a9b-5f1c-9d3e-6b1c8e3f7a10")
"""Of the ids below. Any change to it, or to how it is used, makes old duplicates new jobs."""


def derived_id(*parts: str) -> str:
    """A UUID of version 5 (RFC 9562): the same parts give the same id, in every process."""
    return str(uuid.uuid5(NAMESPACE, json.dumps(parts)))


def keyed_id(app: str, job: str, key: str) -> str:
    """The id of a job that is enqueued with a key: over HTTP with an ``Idempotency-Key``, or by
    ``amqpjobs enqueue --key``. Both of one key are the same job."""
    return derived_id("key", app, job, key)
