"""What is rendered for an app: valid, restricted, and ended in time."""

import re
from typing import Any

import kubernetes_validate
import pydantic
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from amqpjobs import App, KillSwitch, Queue
from amqpjobs.cli.deploy import Plan, files_of, plan_of
from amqpjobs.cli.deploy.text import text_of
from amqpjobs.client.client import registry_of
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.job import Job
from amqpjobs.jobs.queue.queue import MAX_NAME
from amqpjobs.settings import load_settings
from tests.support.deployed import IMAGE, shop_app, shop_plan
from tests.support.manifests import (
    VERSIONS,
    Manifest,
    bodies,
    of_kind,
    template_of,
    templates,
    validate,
)

SUFFIX = len("-ab12cd34ef-gh56i")
"""What a Deployment adds to the names of its pods; each has 63 characters at most."""


def test_every_manifest_is_valid() -> None:
    """By the schemas of Kubernetes and by KEDA's, with nothing in it that these do not know."""
    found = bodies(shop_plan(asgi="shop:api", claims={"album": "/album"}, egress=[443]))
    for manifest in found:
        validate(manifest)
    assert {manifest["kind"] for manifest in found} == {
        "CronJob", "Deployment", "Job", "Kustomization", "NetworkPolicy", "PodDisruptionBudget",
        "ScaledObject", "Service", "TriggerAuthentication",
    }  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_valid_is_found(version: str) -> None:
    """Else the test above would be worth nothing."""
    (first, *_) = of_kind(bodies(shop_plan()), "Deployment")
    first["spec"]["template"]["spec"]["terminationGracePeriod"] = 18  # ...Seconds
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        validate(first, (version,))
    (scaled, *_) = of_kind(bodies(shop_plan()), "ScaledObject")
    scaled["spec"]["triggers"][0]["metadata"]["queueLength"] = "20"  # deprecated
    with pytest.raises(pydantic.ValidationError, match="queueLength"):
        validate(scaled)


queue_names = st.text(min_size=1, max_size=60) | st.sampled_from(
    ["y", "null", "1e3", "0x10", "~", "12:30:45", "-x", "$(HOME)", "a: b", "#", "%", "\n", "é" * 90]
)
some_queues = st.builds(
    dict,
    name=queue_names,
    priorities=st.dictionaries(st.text(min_size=1, max_size=12), st.integers(1, 9), max_size=3),
    rate=st.sampled_from([None, "100/s", "30/m", "9/s"]),
    kill_switch=st.sampled_from([None, KillSwitch()]),
)
some_jobs = st.tuples(some_queues, st.none() | st.floats(0.01, 1e7))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any app, as far as RabbitMQ would take its queues."""
    variables = {
        "concurrency": draw(st.integers(1, 10_000)),
        "prefetch": draw(st.none() | st.integers(1, 10_000)),
        "shutdown_timeout": draw(st.floats(0.01, 1e5)),
    }
    app = App(draw(st.text(min_size=1, max_size=80)), settings=load_settings(**variables))
    for i, (given_queue, timeout) in enumerate(draw(st.lists(some_jobs, min_size=1, max_size=4))):
        try:
            queue = Queue(**given_queue)
            queue.name.encode()

            @app.job(queue=queue, name=f"job {i}", timeout=timeout)
            async def job() -> None: ...

            app.check()
        except (ConfigurationError, UnicodeEncodeError):
            from hypothesis import reject

            reject()
    return plan_of(app, "a.b:app", IMAGE)


@given(plans())
@settings(max_examples=25, deadline=None)
def test_any_app_gives_manifests_that_are_valid(plan: Plan) -> None:
    """Whatever its queues are called, and whatever their priorities, rates and timeouts are."""
    found = bodies(plan)
    for manifest in found:
        validate(manifest, VERSIONS[-1:])
    names = [(m["kind"], m["metadata"]["name"]) for m in found if m["kind"] != "Kustomization"]
    assert len(set(names)) == len(names)
    assert all(len(name) + SUFFIX <= 63 + 6 for _, name in names)
    for manifests in files_of(plan).values():
        written = [m.body for m in manifests]
        assert list(yaml.load_all(text_of(manifests), yaml.CSafeLoader)) == written
    consumed = {
        template["spec"]["containers"][0]["args"][-1].replace("$$", "$")
        for name, template in templates(found).items()
        if "-worker-" in name
    }
    assert consumed == {work.queue for work in plan.work}
    assert max(len(work.queue.encode()) for work in plan.work) <= MAX_NAME


def variables_of(manifests: list[Manifest]) -> dict[str, str]:
    """What the pods are told by the ConfigMap."""
    maps = [each["configMapGenerator"] for each in manifests if "configMapGenerator" in each]
    assert all(each == maps[0] for each in maps)
    return dict(line.split("=", 1) for line in maps[0][0]["literals"])


@pytest.mark.parametrize("timeout", [0.5, 8, 8.2, 60, 3600])
def test_every_pod_has_ten_seconds_beyond_its_own_budget(timeout: float) -> None:
    """What is killed gives nothing back in order. The time of preStop counts, too."""
    found = bodies(shop_plan(shop_app(shutdown_timeout=timeout)))
    told = float(variables_of(found)["AMQPJOBS_SHUTDOWN_TIMEOUT"])
    assert told == timeout
    pods = {name: template["spec"] for name, template in templates(found).items()}
    assert len(pods) == 7
    for name, pod in pods.items():
        hooks = pod["containers"][0].get("lifecycle", {})
        drain = hooks.get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert drain == (5 if name == "shop-web" else 0)
        assert told + drain + 10 <= pod["terminationGracePeriodSeconds"], name


def test_every_pod_is_restricted() -> None:
    """The rules of the profile `restricted`, one by one; and beyond it, nothing to write to but
    /tmp, no token, and no variables made of Services."""
    pods = templates(bodies(shop_plan(claims={"album": "/album"})))
    for template in pods.values():
        pod = template["spec"]
        (container,) = pod["containers"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        identity = pod["securityContext"]
        assert identity["runAsNonRoot"] is True
        assert identity["runAsUser"] == identity["runAsGroup"] == identity["fsGroup"] == 10001
        assert identity["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        writable = {m["name"] for m in container["volumeMounts"] if not m.get("readOnly")}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert writable <= {"tmp", "album"}
        assert volumes["tmp"]["emptyDir"]["sizeLimit"]
        assert {m["name"] for m in container["volumeMounts"]} == set(volumes)
        assert container["resources"]["requests"]["cpu"]
        assert container["resources"]["limits"]["memory"]
    seeing = {name for name, t in pods.items() if "album" in str(t["spec"]["volumes"])}
    assert {name.split("-")[1] for name in seeing} == {"web", "worker", "run"}


def test_workers_are_asked_by_their_heartbeat_and_not_too_often() -> None:
    """Each question is a process. The file is where the pod may write."""
    found = bodies(shop_plan())
    workers = [t for name, t in templates(found).items() if "-worker-" in name]
    assert len(workers) == 2
    for template in workers:
        (container,) = template["spec"]["containers"]
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            assert container[kind]["exec"]["command"][:2] == ["amqpjobs", "health"]
            assert container[kind]["periodSeconds"] >= (5 if kind == "startupProbe" else 30)
        assert "--strict" not in container["livenessProbe"]["exec"]["command"]
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert variables_of(found)["AMQPJOBS_HEARTBEAT_FILE"] == "/tmp/amqpjobs.heartbeat"


def test_the_web_tier_is_asked_over_http() -> None:
    """Alive and ready are two questions: RabbitMQ being away is no reason for a restart."""
    (web,) = templates(bodies(shop_plan()))["shop-web"]["spec"]["containers"]
    assert web["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "http"}
    assert web["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
    assert web["ports"] == [{"name": "http", "containerPort": 8000}]
    assert web["args"] == ["web", "--host", "0.0.0.0", "--port", "8000"]


def test_what_selects_pods_finds_them() -> None:
    """A selector that fits nothing is valid, and a Deployment's cannot be changed later."""
    found = bodies(shop_plan())
    pods = {name: t["metadata"]["labels"] for name, t in templates(found).items()}
    expected = {
        ("Deployment", "shop-web"): {"shop-web"},
        ("Service", "shop-web"): {"shop-web"},
        ("PodDisruptionBudget", "shop-web"): {"shop-web"},
        ("NetworkPolicy", "shop-pods"): set(pods),
        ("NetworkPolicy", "shop-web"): {"shop-web"},
        ("NetworkPolicy", "shop-web-store"): {"shop-web"},
        ("NetworkPolicy", "shop-migrate-store"): {n for n in pods if "-migrate-" in n},
        **{("Deployment", name): {name} for name in pods if "-worker-" in name},
    }
    seen: dict[tuple[str, str], set[str]] = {}
    for manifest in found:
        spec = manifest.get("spec", {})
        selector = spec.get("podSelector", spec.get("selector"))
        if selector is not None:
            wanted = selector.get("matchLabels", selector).items()
            key = manifest["kind"], manifest["metadata"]["name"]
            seen[key] = {name for name, labels in pods.items() if wanted <= labels.items()}
    assert seen == expected


def test_pods_may_talk_to_what_they_need_and_nothing_else() -> None:
    """DNS, RabbitMQ and its management, telemetry, and what is said; the store for who uses it."""
    policies = {
        m["metadata"]["name"]: m["spec"]
        for m in of_kind(bodies(shop_plan(egress=[443])), "NetworkPolicy")
    }
    everything = policies["shop-pods"]
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in everything
    ports = [p for rule in everything["egress"] for p in rule["ports"]]
    assert [(p["port"], p["protocol"]) for p in ports] == [
        (53, "UDP"), (53, "TCP"), (5671, "TCP"), (5672, "TCP"), (15672, "TCP"), (4317, "TCP"),
        (4318, "TCP"), (443, "TCP"),
    ]  # fmt: skip
    asked = of_kind(bodies(shop_plan(ingress=[9464])), "NetworkPolicy")[0]["spec"]
    assert asked["ingress"] == [{"ports": [{"protocol": "TCP", "port": 9464}]}]
    for name in ("shop-web-store", "shop-migrate-store"):
        assert policies[name]["egress"] == [{"ports": [{"protocol": "TCP", "port": 5432}]}]


def test_scaling_counts_what_each_queue_of_a_priority_has() -> None:
    """Unacked ones, too: a worker that runs its last jobs is not idle. One more worker for what
    one holds, which a rate makes less."""
    app = shop_app(concurrency=8)
    scaled = {
        m["metadata"]["name"]: m["spec"] for m in of_kind(bodies(shop_plan(app)), "ScaledObject")
    }
    assert len(scaled) == 2
    for name, spec in scaled.items():
        assert spec["scaleTargetRef"] == {"name": name}
        assert all(t["metadata"]["protocol"] == "http" for t in spec["triggers"])
        assert all(t["metadata"]["excludeUnacknowledged"] == "false" for t in spec["triggers"])
    found = [
        (t["metadata"]["queueName"], t["metadata"]["value"])
        for s in scaled.values()
        for t in s["triggers"]
    ]
    assert found == [
        ("receipts", "16"), ("Photos_HIGH.x.high", "16"), ("Photos_HIGH.x", "16"),
        ("Photos_HIGH.x.low", "16"),
    ]  # fmt: skip
    held = plan_of(shop_app(prefetch=500), "shop:app", IMAGE).work[1].held
    assert held == {"Photos_HIGH.x.high": 180, "Photos_HIGH.x": 90, "Photos_HIGH.x.low": 30}


def test_a_singleton_queue_has_one_worker() -> None:
    """More would only stand by; the text says so in both places."""
    app = App("shop", settings=load_settings())

    @app.job(queue=Queue("reindex", singleton=True), timeout=60)
    async def reindex() -> None: ...

    @app.job(queue="mails")
    async def mail() -> None: ...

    plan = plan_of(app, "shop:app", IMAGE)
    assert plan.work[0].held == {"reindex": 1}
    single, plain = of_kind(bodies(plan), "ScaledObject")
    validate(single)
    assert (single["spec"]["minReplicaCount"], single["spec"]["maxReplicaCount"]) == (1, 1)
    assert plain["spec"]["maxReplicaCount"] == 10
    comments = [manifest.about for manifests in files_of(plan).values() for manifest in manifests]
    assert sum("singleton queue" in comment for comment in comments) == 2


def test_scaling_down_is_slower_than_the_longest_job() -> None:
    """Who is told to stop is not chosen by what it does."""
    steady = {
        m["metadata"]["name"]: m["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for m in of_kind(bodies(shop_plan()), "ScaledObject")
    }
    windows = [b["scaleDown"]["stabilizationWindowSeconds"] for b in steady.values()]
    assert windows == [1800, 300]  # twice 900 s; and a job without a limit


def test_jobs_by_the_clock_do_not_overlap_and_have_a_key() -> None:
    """The key is what all pods of one time have in common."""
    enqueue, run = of_kind(bodies(shop_plan()), "CronJob")
    for cron in (enqueue, run):
        assert cron["spec"]["concurrencyPolicy"] == "Forbid"
        assert cron["spec"]["startingDeadlineSeconds"] > 10  # else it may never be started
        assert cron["spec"]["timeZone"] == "Etc/UTC"
    (container,) = (template_of(enqueue) or {})["spec"]["containers"]
    assert container["args"] == ["enqueue", "--args={}", "--key=$(OCCURRENCE)", "--", "nightly"]
    (variable,) = container["env"]
    assert variable["name"] == "OCCURRENCE"
    path = variable["valueFrom"]["fieldRef"]["fieldPath"]
    assert path == "metadata.labels['batch.kubernetes.io/job-name']"
    (container,) = (template_of(run) or {})["spec"]["containers"]
    assert container["args"] == ["run", '--args={"days": 365}', "--", "nightly"]
    assert run["spec"]["schedule"] == "0 4 * * 0"


def test_each_release_has_jobs_of_its_own() -> None:
    """A Job cannot be changed: whatever it follows from is in its name."""

    def names(plan: Plan) -> set[str]:
        return {m["metadata"]["name"] for m in of_kind(bodies(plan), "Job")}

    plain = shop_plan()
    others: list[Plan] = [
        plan_of(shop_app(), "shop:app", "shop:2", timed=plain.timed),
        shop_plan(shop_app(concurrency=3)),
        shop_plan(environment={"A": "b"}),
    ]
    assert names(plain) == names(shop_plan())
    assert len(names(plain)) == 2
    for other in others:
        assert not names(plain) & names(other)


def test_no_secret_is_in_the_manifests() -> None:
    """They say which Secret has it. Each kind of pod has its own: a worker may not configure."""
    secret = "hunter2-and-more-than-16"
    app = shop_app(
        url=f"amqp://user:{secret}@host/", store_url=f"postgresql://u:{secret}@h/d",
        web_token=secret,
    )  # fmt: skip
    plan = shop_plan(app)
    assert secret not in "".join(text_of(manifests) for manifests in files_of(plan).values())
    used = {
        name: volume["secret"]["secretName"]
        for name, template in templates(bodies(plan)).items()
        for volume in template["spec"]["volumes"]
        if "secret" in volume
    }
    assert {re.sub("-[0-9a-f]{8}$", "", name): secret for name, secret in used.items()} == {
        "shop-web": "shop-publisher",
        "shop-worker-receipts": "shop-worker",
        "shop-worker-photos-high-x": "shop-worker",
        "shop-topology": "shop-deploy",
        "shop-migrate": "shop-deploy",
        "shop-enqueue-nightly": "shop-publisher",
        "shop-run-nightly": "shop-worker",
    }


def test_the_same_app_gives_the_same_text() -> None:
    """What is committed changes when the app does."""

    def texts() -> dict[str, Any]:
        return {path: text_of(manifests) for path, manifests in files_of(shop_plan()).items()}

    assert texts() == texts()


def test_the_secrets_of_webhooks_are_asked_for() -> None:
    """Without one of them the web tier does not start."""
    app = shop_app()
    app.hook("orders", job=Job(registry_of(app).find("send_receipt")))
    (web, *_) = files_of(shop_plan(app))["base/web.yaml"]
    assert "AMQPJOBS_WEB_TOKEN, AMQPJOBS_HOOK_ORDERS_SECRET." in web.about.replace("\n", " ")
