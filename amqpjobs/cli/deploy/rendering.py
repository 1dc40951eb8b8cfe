"""Which manifest stands in which file. Changes when the folder's layout does."""

from collections.abc import Mapping
from typing import TypeAlias

from amqpjobs.cli.deploy.cron import timed_of
from amqpjobs.cli.deploy.keda import keda_of
from amqpjobs.cli.deploy.kustomization import (
    base_of,
    keda_overlay_of,
    production_of,
    production_release_of,
    release_base_of,
)
from amqpjobs.cli.deploy.manifests import Manifest
from amqpjobs.cli.deploy.network import network_of
from amqpjobs.cli.deploy.plan import Plan
from amqpjobs.cli.deploy.release import release_of
from amqpjobs.cli.deploy.web import web_of
from amqpjobs.cli.deploy.workers import file_of, worker_of

Files: TypeAlias = Mapping[str, list[Manifest]]

THEIRS = "overlays/production/"
"""The example: who deploys makes it their own."""


def files_of(plan: Plan) -> Files:
    """All files of a plan by their paths, in the order in which a person reads them."""
    base: dict[str, list[Manifest]] = {"web.yaml": list(web_of(plan))}
    for work in plan.work:
        base[file_of(plan, work)] = [worker_of(plan, work)]
    if plan.timed:
        base["cron.yaml"] = [timed_of(plan, timed) for timed in plan.timed]
    base["network.yaml"] = list(network_of(plan))
    return {
        "base/kustomization.yaml": [base_of(plan, base)],
        **{f"base/{name}": manifests for name, manifests in base.items()},
        "release/kustomization.yaml": [release_base_of(plan, ["jobs.yaml"])],
        "release/jobs.yaml": list(release_of(plan)),
        "overlays/keda/kustomization.yaml": [keda_overlay_of(plan, ["scaling.yaml"])],
        "overlays/keda/scaling.yaml": list(keda_of(plan)),
        f"{THEIRS}kustomization.yaml": [production_of(plan)],
        f"{THEIRS}release/kustomization.yaml": [production_release_of(plan)],
    }
