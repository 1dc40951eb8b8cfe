"""`amqpjobs deploy render` as its users meet it: in a folder of their own, with their app."""

import json
from pathlib import Path

import pytest
import yaml

from tests.support.manifests import built, validate
from tests.support.programs import command, environment

SHOP = """
from amqpjobs import App, Queue

app = App("shop")


@app.job(queue="receipts", timeout=30)
async def send_receipt(order: int) -> None: ...


@app.job(queue=Queue("mails", priorities={"high": 3, "normal": 1}))
async def mail(to: str, text: str = "") -> None: ...
"""

RENDER = ("deploy", "render", "--app", "shop:app", "--image", "registry.example/shop:1.0")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """An empty folder but for the app."""
    (tmp_path / "shop.py").write_text(SHOP)
    return environment("amqp://user:hunter2@nowhere", tmp_path, AMQPJOBS_APP="")


def test_a_folder_to_review_and_commit(tmp_path: Path, env: dict[str, str]) -> None:
    """Without RabbitMQ, without a cluster; again after a change, and not over what was edited."""
    done = command(*RENDER, "--output", "k8s", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "k8s/base/worker-receipts.yaml is written" in done.stdout
    for manifest in built(tmp_path / "k8s/overlays/keda"):
        validate(manifest)
    (tmp_path / "shop.py").write_text(SHOP.replace("receipts", "bills"))
    done = command(*RENDER, "--output", "k8s", env=env, cwd=tmp_path)
    assert done.returncode == 0
    assert "k8s/base/worker-bills.yaml is written" in done.stdout
    assert "k8s/base/worker-receipts.yaml is no longer used" in done.stderr
    with (tmp_path / "k8s/base/web.yaml").open("a") as file:
        file.write("# mine\n")
    done = command(*RENDER, "--output", "k8s", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("amqpjobs: edited since they were written")
    assert len(done.stderr.splitlines()) == 1


def test_on_stdout_it_is_one_stream_of_yaml(tmp_path: Path, env: dict[str, str]) -> None:
    """To look at, with the path of each file."""
    done = command(*RENDER, env=env, cwd=tmp_path)
    assert done.returncode == 0
    kinds = [found["kind"] for found in yaml.safe_load_all(done.stdout)]
    assert kinds.count("Deployment") == 3
    assert "\n# base/worker-mails.yaml\n" in done.stdout
    assert "hunter2" not in done.stdout
    assert not list(tmp_path.glob("k8s*"))


def test_json_needs_no_yaml(tmp_path: Path, env: dict[str, str]) -> None:
    """The same objects by their files. Without PyYAML all else says what to install."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "yaml.py").write_text('raise ModuleNotFoundError("no yaml", name="yaml")\n')
    without = env | {"PYTHONPATH": f"{blocked}:{env['PYTHONPATH']}"}
    done = command(*RENDER, "--json", env=without, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)
    for manifests in files.values():
        for manifest in manifests:
            validate(manifest)
    done = command(*RENDER, env=without, cwd=tmp_path)
    assert done.returncode == 2
    assert "pip install" in done.stderr
    assert " 'amqpjobs[deploy]'; --json needs nothing" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--enqueue", "mail"), "no schedule of cron"),
        (("--enqueue", "mail=@daily"), "the arguments do not fit"),
        (("--run", "letter=@daily"), "there is no job 'letter'"),
        (("--env", "A"), "write NAME=VALUE"),
        (("--claim", "album"), "write NAME:VALUE"),
        (("--namespace", "Shop"), "is no namespace"),
        (("--concurrency", "0"), "--concurrency"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    tmp_path: Path, env: dict[str, str], arguments: tuple[str, ...], said: str
) -> None:
    """As a mistake in usage; nothing is written."""
    done = command(*RENDER, "--output", "k8s", *arguments, env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "k8s").exists()


def test_jobs_by_the_clock_are_said_in_a_word(tmp_path: Path, env: dict[str, str]) -> None:
    """With arguments that have `=` in them, too."""
    done = command(
        *RENDER, "--json", "--enqueue", 'mail=0 9 * * 1={"to": "ada@example.org", "text": "a=b"}',
        env=env, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (cron,) = json.loads(done.stdout)["base/cron.yaml"]
    assert cron["spec"]["schedule"] == "0 9 * * 1"
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    assert arguments[1] == '--args={"to": "ada@example.org", "text": "a=b"}'
