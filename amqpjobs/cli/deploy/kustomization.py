"""What kustomize puts together: the base, the release, and the overlays.

Changes when there is another overlay. By
https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/.
"""

import shlex
from collections.abc import Iterable, Iterator

from amqpjobs.cli.deploy.manifests import Json, Manifest
from amqpjobs.cli.deploy.plan import Plan
from amqpjobs.cli.deploy.pods import config_of, settings_of
from amqpjobs.cli.deploy.release import STEPS, job_name
from amqpjobs.cli.deploy.workers import deployment_name

BASE = """\
What runs all the time. Made, and to be made again after a change to the app, by:

{command}

The ConfigMap's name has a hash of the settings, so that a changed setting starts the pods anew."""

RELEASE = """\
What runs once for each release, before its pods:

kubectl apply{namespace} -k release
kubectl wait{namespace} --for=condition=complete --timeout=600s {jobs}
kubectl apply{namespace} -k base"""

KEDA = """\
The base, and as many workers as there is work for; needs KEDA 2.16 or newer in the cluster.

The number of workers is KEDA's business here: in the manifests, it would be set back by every
`kubectl apply`."""

PRODUCTION = """\
An example to make your own: written once, and then not touched by `amqpjobs deploy render`.

Another image, and how many pods. For KEDA, ../keda takes the place of ../../base, and the workers
go from the replicas."""

PRODUCTION_RELEASE = """\
The Jobs of a release with the image of this overlay. Another image needs another nameSuffix, as a
Job cannot be changed."""


def base_of(plan: Plan, files: Iterable[str]) -> Manifest:
    """The base: its files, and the settings."""
    about = BASE.format(command=command_of(plan))
    body = {**_namespaced(plan), "resources": sorted(files), "configMapGenerator": [_config(plan)]}
    return Manifest(about, _kustomization(body))


def release_base_of(plan: Plan, files: Iterable[str]) -> Manifest:
    """The Jobs, with settings of the same name and content as the base's."""
    about = RELEASE.format(
        namespace=f" --namespace {plan.namespace}" if plan.namespace else "",
        jobs=" ".join(f"job/{job_name(plan, step)}" for step in STEPS),
    )
    body = {**_namespaced(plan), "resources": sorted(files), "configMapGenerator": [_config(plan)]}
    return Manifest(about, _kustomization(body))


def keda_overlay_of(plan: Plan, files: Iterable[str]) -> Manifest:
    """The base with KEDA's objects, and without numbers of workers."""
    patch = {
        "target": {
            "kind": "Deployment",
            "labelSelector": "app.kubernetes.io/component=worker",
        },
        "patch": "- op: remove\n  path: /spec/replicas\n",
    }
    resources = ["../../base", *sorted(files)]
    body = {**_namespaced(plan), "resources": resources, "patches": [patch]}
    return Manifest(KEDA, _kustomization(body))


def production_of(plan: Plan) -> Manifest:
    """An example: the image's tag, and replicas."""
    replicas = [{"name": f"{plan.prefix}-web", "count": 3}]
    replicas += [{"name": deployment_name(plan, work), "count": 2} for work in plan.work]
    body = {"resources": ["../../base"], "images": [_image(plan)], "replicas": replicas}
    return Manifest(PRODUCTION, _kustomization(body))


def production_release_of(plan: Plan) -> Manifest:
    """The same image for the Jobs, and names of their own for these."""
    body = {"resources": ["../../../release"], "nameSuffix": "-1", "images": [_image(plan)]}
    return Manifest(PRODUCTION_RELEASE, _kustomization(body))


def command_of(plan: Plan) -> str:
    """The command that renders this plan."""
    words = ["amqpjobs", "deploy", "render", *(w for option in _options(plan) for w in option)]
    return shlex.join(words) + " --output ."


def _options(plan: Plan) -> Iterator[tuple[str, ...]]:
    yield "--app", plan.place
    yield "--image", plan.image
    if plan.namespace:
        yield "--namespace", plan.namespace
    if plan.asgi:
        yield "--asgi", plan.asgi
    yield "--concurrency", str(plan.concurrency)
    if plan.prefetch:
        yield "--prefetch", str(plan.prefetch)
    yield "--shutdown-timeout", f"{plan.shutdown_timeout:g}"
    if plan.longest_delay is not None:
        yield "--longest-delay", f"{plan.longest_delay:g}"
    for timed in plan.timed:
        arguments = "" if timed.arguments == "{}" else f"={timed.arguments}"
        yield f"--{timed.how}", f"{timed.job}={timed.schedule}{arguments}"
    for name, value in plan.environment.items():
        yield "--env", f"{name}={value}"
    for name, path in plan.claims.items():
        yield "--claim", f"{name}:{path}"
    for port in plan.egress:
        yield "--egress", str(port)
    for port in plan.ingress:
        yield "--ingress", str(port)


def _config(plan: Plan) -> Json:
    literals = [f"{name}={value}" for name, value in settings_of(plan).items()]
    return {"name": config_of(plan), "literals": literals}


def _namespaced(plan: Plan) -> Json:
    return {"namespace": plan.namespace} if plan.namespace else {}


def _image(plan: Plan) -> Json:
    if plan.digest:
        return {"name": plan.repository, "digest": plan.digest}
    return {"name": plan.repository, "newTag": plan.tag or "latest"}


def _kustomization(body: Json) -> Json:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **body}
