"""`deploy/kubernetes`: what is rendered for the photo album, as kustomize and others read it."""

import asyncio
import json
import re
import shlex
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import yaml

from amqpjobs import App, Queue
from amqpjobs.cli.deploy import files_of, plan_of
from amqpjobs.cli.deploy.folder import write
from amqpjobs.cli.deploy.kustomization import command_of
from amqpjobs.settings import load_settings
from tests.support.amqp import stranger
from tests.support.brokers.broker_server import Server, VirtualHost, poll
from tests.support.deployed import IMAGE, shop_app, shop_plan
from tests.support.manifests import built, of_kind, templates, validate
from tests.support.programs import ROOT, command, environment

ALBUM = ROOT / "deploy/kubernetes"
KUSTOMIZATIONS = (
    "base", "release", "overlays/keda", "overlays/production", "overlays/production/release"
)  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.yaml")}


def test_it_is_what_the_command_in_it_writes(tmp_path: Path) -> None:
    """Nothing was edited, and nobody forgot to render it again."""
    text = (ALBUM / "base/kustomization.yaml").read_text()
    found = re.search(r"^#   amqpjobs (deploy render .*) --output \.$", text, re.M)
    assert found
    arguments = [*shlex.split(found[1]), "--output", str(tmp_path / "k8s")]
    done = command(*arguments, env=environment("amqp://nowhere", tmp_path, AMQPJOBS_APP=""))
    assert done.returncode == 0, done.stderr
    rendered = contents(tmp_path / "k8s")
    # The test's own settings differ from those of who renders without any.
    assert "AMQPJOBS_SHUTDOWN_TIMEOUT=8" in rendered["base/kustomization.yaml"]
    assert rendered == contents(ALBUM)


@pytest.mark.parametrize("folder", KUSTOMIZATIONS)
def test_kustomize_builds_what_is_valid(folder: str) -> None:
    """By kubectl itself; and what comes out of it is validated, not only what went in."""
    found = built(ALBUM / folder)
    for manifest in found:
        assert manifest["metadata"]["namespace"] == "photos"
        validate(manifest)
    settings = {m["metadata"]["name"] for m in of_kind(found, "ConfigMap")}
    assert len(settings) == 1
    for template in templates(found).values():
        (source,) = template["spec"]["containers"][0]["envFrom"]
        assert {source["configMapRef"]["name"]} == settings


def test_every_kind_is_there() -> None:
    """Web, a worker for each queue, jobs of a release, jobs by the clock, scaling, network."""
    names = [
        f"{m['kind']} {re.sub('-[0-9a-f]{8}$', '', m['metadata']['name'])}"
        for folder in ("release", "overlays/keda")
        for m in built(ALBUM / folder)
        if m["kind"] != "ConfigMap"
    ]
    assert sorted(names) == [
        "CronJob photos-enqueue-tidy",
        "CronJob photos-run-tidy",
        "Deployment photos-web",
        "Deployment photos-worker-thumbnails",
        "Job photos-migrate",
        "Job photos-topology",
        "NetworkPolicy photos-migrate-store",
        "NetworkPolicy photos-pods",
        "NetworkPolicy photos-web",
        "NetworkPolicy photos-web-store",
        "PodDisruptionBudget photos-web",
        "ScaledObject photos-worker-thumbnails",
        "Service photos-web",
        "TriggerAuthentication photos-rabbitmq",
    ]


def test_with_keda_the_number_of_workers_is_kedas() -> None:
    """Else each `kubectl apply` would set it back. The web tier's stays."""
    deployments = of_kind(built(ALBUM / "overlays/keda"), "Deployment")
    counts = {m["metadata"]["name"]: m["spec"].get("replicas") for m in deployments}
    assert counts == {"photos-web": 2, "photos-worker-thumbnails": None}


def test_the_example_changes_the_image_and_the_number_of_pods(tmp_path: Path) -> None:
    """Of pods and jobs; a release of the same name is the same Job."""
    write(tmp_path, files_of(shop_plan()))
    for folder in ("", "release/"):
        path = tmp_path / f"overlays/production/{folder}kustomization.yaml"
        path.write_text(path.read_text().replace('newTag: "1.0"', 'newTag: "2.0"'))
    found = built(tmp_path / "overlays/production")
    jobs = built(tmp_path / "overlays/production/release")
    images = {
        template["spec"]["containers"][0]["image"]
        for template in (*templates(found).values(), *templates(jobs).values())
    }
    assert images == {"registry.example:5000/shop:2.0"}
    counts = {m["metadata"]["name"]: m["spec"]["replicas"] for m in of_kind(found, "Deployment")}
    assert counts.pop("shop-web") == 3
    assert set(counts.values()) == {2}
    assert all(m["metadata"]["name"].endswith("-1") for m in of_kind(jobs, "Job"))


def test_an_overlay_changes_a_setting_and_starts_its_pods_anew(tmp_path: Path) -> None:
    """As deploy/README.md says it: the name that the pods have changes with it."""
    write(tmp_path, files_of(shop_plan()))
    said = (ROOT / "deploy/README.md").read_text()
    found = re.search(r"```yaml\n(configMapGenerator:\n.*?)```", said, re.S)
    assert found
    path = tmp_path / "overlays/production/kustomization.yaml"
    before = built(path.parent)
    path.write_text(path.read_text() + found[1])
    after = built(path.parent)
    (settings,) = of_kind(after, "ConfigMap")
    assert settings["data"]["AMQPJOBS_LOG_LEVEL"] == "debug"
    assert settings["data"]["AMQPJOBS_APP"] == "shop:app"
    assert templates(before).keys() == templates(after).keys()
    for name, template in templates(after).items():
        assert settings["metadata"]["name"] in str(template)
        assert template != templates(before)[name]


HARD = [
    "y", "no", "null", "~", "1e3", "0x10", "1_000", "12:30:45", "2026-11-22", "-x", "--help",
    "$(HOME)", "$$", "a: b", "# c", "a\nb", "\t", '"', "'", "写真", "é\u2028", "%", "&a",
]  # fmt: skip


def test_kubectl_reads_names_as_they_are(tmp_path: Path) -> None:
    """Its YAML is another one than Python's: to it, `y` would be true, and `1e3` a number."""
    app = App("hard", settings=load_settings())
    for i, name in enumerate(HARD):

        @app.job(queue=name, name=f"job {i}")
        async def job() -> None: ...

    write(tmp_path, files_of(plan_of(app, "a.b:app", IMAGE)))
    found = built(tmp_path / "overlays/keda")
    for manifest in found:
        validate(manifest)
    consumed = [
        template["spec"]["containers"][0]["args"]
        for name, template in templates(found).items()
        if "-worker-" in name
    ]
    expected = [
        ["consume", "--wait", "120", *(["--"] if name[0] == "-" else []), name.replace("$", "$$")]
        for name in HARD
    ]
    assert sorted(consumed) == sorted(expected)
    scaled = [m["spec"]["triggers"][0]["metadata"] for m in of_kind(found, "ScaledObject")]
    asked = [f"^{re.escape(name)}$" if " " in name else name for name in HARD]
    assert sorted(each["queueName"] for each in scaled) == sorted(asked)
    assert "job 0" in (tmp_path / "base/worker-y.yaml").read_text()


def test_rendered_by_its_own_command_it_is_the_same(tmp_path: Path) -> None:
    """Which stands in the base: whoever changes the app needs to remember nothing."""
    plan = shop_plan(
        shop_app(prefetch=7), namespace="shop", environment={"A": "b c"},
        claims={"album": "/album"}, egress=[443, 25], ingress=[9464], longest_delay=3600,
    )  # fmt: skip
    write(tmp_path / "k8s", files_of(plan))
    (tmp_path / "shop.py").write_text(
        "from tests.support.deployed import shop_app\napp = shop_app()\n"
    )
    assert plan.place == "shop:app"
    arguments = shlex.split(command_of(plan))[1:]
    env = environment("amqp://nowhere", tmp_path, AMQPJOBS_APP="")
    (tmp_path / "k8s/shop.py").write_text((tmp_path / "shop.py").read_text())
    done = command(*arguments, "--json", env=env, cwd=tmp_path / "k8s")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["written"] == []


async def test_kedas_question_counts_what_waits_and_what_runs(broker: VirtualHost) -> None:
    """As its scaler asks: the address is made of the host, the virtual host and the queue."""
    app = App("shop", settings=load_settings(url=broker.url))
    queue = Queue("Photos_HIGH.x/1", priorities={"high": 2, "normal": 1, "a b+c": 1})

    @app.job(queue=queue)
    async def photo() -> None: ...

    plan = plan_of(app, "shop:app", IMAGE)
    scaled = [m.body for m in files_of(plan)["overlays/keda/scaling.yaml"]]
    triggers = [
        trigger["metadata"]
        for manifest in of_kind(scaled, "ScaledObject")
        for trigger in manifest["spec"]["triggers"]
    ]
    assert [trigger.get("useRegex", "false") for trigger in triggers] == ["false", "false", "true"]
    async with app.lifespan():
        for priority in ("high", "high", "high", "a b+c"):
            await photo.with_options(priority=priority).later()

    # Who may look at queues, and nothing else: as deploy/README.md makes one.
    user = f"keda-{broker.name}"
    broker.server.add_user(user, "keda", tags="monitoring")
    broker.server.set_permissions(user, broker.name, configure="^$", write="^$", read="^$")
    keda = Server(f"amqp://{user}:keda@keda/", broker.server.management_url, "any")

    def answer(trigger: dict[str, str], key: str) -> int:
        place, name = f"/queues/{quote_plus(broker.name)}", quote_plus(trigger["queueName"])
        if "useRegex" not in trigger:
            return int(keda.api("GET", f"{place}/{name}").get(key, 0))
        query = f"?page=1&use_regex=true&pagination=false&name={name}&page_size=100"
        return sum(found.get(key, 0) for found in keda.api("GET", place + query)["items"])

    async with stranger(broker.url) as channel:
        queued = await channel.get_queue(triggers[0]["queueName"])
        assert await queued.get(timeout=10) is not None

        def settled() -> bool:  # the management API tells what it knew some seconds ago
            return answer(triggers[0], "messages_unacknowledged") == 1

        assert await asyncio.to_thread(poll, settled, 60.0, 0.2)
        assert [answer(trigger, "messages") for trigger in triggers] == [3, 0, 1]
    broker.server.delete_user(user)


def test_secrets_are_read_from_a_volume_as_the_kubelet_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is a link into a folder that is a link itself, so that all change at once."""
    data = tmp_path / "..2026_11_22_13_00_00.1"
    data.mkdir()
    files = {"AMQPJOBS_URL": "amqp://u:p@broker/", "AMQPJOBS_WEB_TOKEN": "t" * 32}
    (tmp_path / "..data").symlink_to(data.name)
    for name, value in files.items():
        (data / name).write_text(value + "\n")
        (tmp_path / name).symlink_to(f"..data/{name}")
    for name in ("AMQPJOBS_URL", "AMQP_URL", "RABBITMQ_URL", "CLOUDAMQP_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AMQPJOBS_SECRETS_DIR", str(tmp_path))
    settings = load_settings()
    assert settings.url.get_secret_value() == files["AMQPJOBS_URL"]
    assert settings.web_token is not None
    assert settings.web_token.get_secret_value() == files["AMQPJOBS_WEB_TOKEN"]


def test_all_files_are_yaml_that_is_read_as_one_would_think() -> None:
    """No anchors, no tags, nothing folded: what people review."""
    for path, text in contents(ALBUM).items():
        assert not re.search(r"(^|\s)[&*!][\w!]", re.sub(r"#.*|\".*?\"", "", text)), path
        assert max(len(line) for line in text.splitlines() if "amqpjobs deploy" not in line) <= 140
        assert all(yaml.safe_load_all(text))
