"""A manifest as a value: its content for Kubernetes, and its comments for people.

Changes when all manifests get something in common.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from amqpjobs.cli.deploy.plan import Plan

Json: TypeAlias = dict[str, Any]


class Octal(int):
    """The mode of a file, which people read by its octal digits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object of Kubernetes.

    Attributes:
        about: for who reads the file, as a comment in front of it; paragraphs, and commands.
        body: the object.
    """

    about: str
    body: Json


def object_of(
    kind: str,
    version: str,
    name: str,
    labels: Mapping[str, str],
    spec: Json,
    annotations: Mapping[str, str] | None = None,
) -> Json:
    """An object with its metadata; the namespace is kustomize's business."""
    metadata: Json = {"name": name, "labels": dict(labels)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def labels_of(plan: Plan, component: str) -> dict[str, str]:
    """The labels that select the pods of a component
    (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/)."""
    return {**everything_of(plan), "app.kubernetes.io/component": component}


def everything_of(plan: Plan) -> dict[str, str]:
    """The label of all pods of the app."""
    return {"app.kubernetes.io/name": plan.prefix}


def literal(text: str) -> str:
    """The text as an argument of a container, where Kubernetes would replace ``$(NAME)``."""
    return text.replace("$", "$$")
