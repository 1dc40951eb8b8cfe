"""Network policies of the pods. Changes when a pod needs another peer.

Rules of several policies add up; a cluster without a network plugin that enforces them has none
(https://kubernetes.io/docs/concepts/services-networking/network-policies/).
"""

from collections.abc import Iterable, Iterator

from amqpjobs.cli.deploy.manifests import Json, Manifest, everything_of, labels_of, object_of
from amqpjobs.cli.deploy.plan import Plan

DNS = 53
BROKER = (5671, 5672)
MANAGEMENT = 15672
TELEMETRY = (4317, 4318)
STORE = 5432

COMMON = """\
All pods of the app: nobody may connect to them{ingress}, and they may connect to DNS, RabbitMQ
({broker}), its management API ({management}, for `queues` and `doctor`) and an OpenTelemetry
collector ({telemetry}){egress}; to whatever address, which an overlay may narrow down.

What jobs connect to beyond that is --egress PORT of `amqpjobs deploy render`; what others may ask,
such as Prometheus, is --ingress PORT."""

WEB = """\
Whoever reaches the Service may talk to the web tier, which asks for a token; name the pods of your
ingress to be stricter."""

STORES = "The web tier and its migrations may connect to PostgreSQL."


def network_of(plan: Plan) -> Iterator[Manifest]:
    """The policies of the app's pods."""
    everything = everything_of(plan)
    about = COMMON.format(
        broker=_said(BROKER),
        management=MANAGEMENT,
        telemetry=_said(TELEMETRY),
        ingress=f" but at {_said(plan.ingress)}" if plan.ingress else "",
        egress=f", and to {_said(plan.egress)}" if plan.egress else "",
    )
    ports = [*BROKER, MANAGEMENT, *TELEMETRY, *plan.egress]
    yield _policy(
        plan, "pods", everything, about,
        policyTypes=["Ingress", "Egress"],
        **({"ingress": [{"ports": [_port(p) for p in plan.ingress]}]} if plan.ingress else {}),
        egress=[{"ports": [_port(DNS, "UDP"), _port(DNS)]}, {"ports": [_port(p) for p in ports]}],
    )  # fmt: skip
    yield _policy(
        plan, "web", labels_of(plan, "web"), WEB,
        policyTypes=["Ingress"], ingress=[{"ports": [{"protocol": "TCP", "port": "http"}]}],
    )  # fmt: skip
    for component in ("web", "migrate"):
        yield _policy(
            plan, f"{component}-store", labels_of(plan, component),
            STORES if component == "web" else "",
            policyTypes=["Egress"], egress=[{"ports": [_port(STORE)]}],
        )  # fmt: skip


def _policy(plan: Plan, name: str, pods: dict[str, str], about: str, **more: object) -> Manifest:
    spec: Json = {"podSelector": {"matchLabels": pods}, **more}
    return Manifest(
        about,
        object_of(
            "NetworkPolicy",
            "networking.k8s.io/v1",
            f"{plan.prefix}-{name}",
            everything_of(plan),
            spec,
        ),
    )


def _port(number: int, protocol: str = "TCP") -> Json:
    return {"protocol": protocol, "port": number}


def _said(ports: Iterable[int]) -> str:
    return ", ".join(str(port) for port in ports)
