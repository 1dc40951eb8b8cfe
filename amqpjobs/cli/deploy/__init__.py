"""Manifests for Kubernetes, made of what an app knows of its queues. Values in, values out."""

from amqpjobs.cli.deploy.plan import Plan, Timed
from amqpjobs.cli.deploy.planning import plan_of
from amqpjobs.cli.deploy.rendering import files_of

__all__ = ["Plan", "Timed", "files_of", "plan_of"]
