"""KEDA's objects as it takes them, with nothing beside what it knows.

From its definitions, config/crd/bases of https://github.com/kedacore/keda as of August 2026, and
for the metadata of the trigger, which these leave open, from pkg/scalers/rabbitmq_scaler.go there.
An unknown field, which Kubernetes would drop in silence, is refused.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
"""Longer ones fail where KEDA makes a label of them."""

Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class Metadata(Strict):
    name: Name
    namespace: Name | None = None
    labels: dict[str, Annotated[str, StringConstraints(max_length=63)]] = {}
    annotations: dict[str, str] = {}


class Policy(Strict):
    type: Literal["Pods", "Percent"]
    value: Annotated[int, Field(ge=1)]
    period_seconds: Annotated[int, Field(ge=1, le=1800)]


class Rules(Strict):
    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3600)] | None = None
    select_policy: Literal["Max", "Min", "Disabled"] | None = None
    policies: list[Policy] = []


class Behavior(Strict):
    scale_up: Rules | None = None
    scale_down: Rules | None = None


class HorizontalPodAutoscaler(Strict):
    name: Name | None = None
    behavior: Behavior | None = None


class Advanced(Strict):
    restore_to_original_replica_count: bool = False
    horizontal_pod_autoscaler_config: HorizontalPodAutoscaler | None = None


class Target(Strict):
    name: Name
    kind: str = "Deployment"
    api_version: str = "apps/v1"
    env_source_container_name: str | None = None


class RabbitMQ(Strict):
    """All are strings, as the definition says; what they say is read as Go does."""

    queue_name: Annotated[str, Field(min_length=1)]
    protocol: Literal["auto", "amqp", "http"] = "auto"
    mode: Literal[
        "QueueLength", "MessageRate", "DeliverGetRate", "PublishedToDeliveredRatio",
        "ExpectedQueueConsumptionTime",
    ]  # fmt: skip
    value: Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?$")]
    activation_value: str | None = None
    vhost_name: str | None = None
    use_regex: Literal["true", "false"] = "false"
    operation: Literal["sum", "max", "avg"] = "sum"
    page_size: str | None = None
    exclude_unacknowledged: Literal["true", "false"] = "false"
    timeout: str | None = None
    unsafe_ssl: Literal["true", "false"] = "false"

    @model_validator(mode="after")
    def _as_the_scaler(self) -> "RabbitMQ":
        if self.protocol != "http" and (
            self.mode != "QueueLength" or "true" in (self.use_regex, self.exclude_unacknowledged)
        ):
            raise ValueError("only with protocol http")
        if not float(self.value):
            raise ValueError("value must be specified")
        return self


class Reference(Strict):
    name: Name
    kind: Literal["TriggerAuthentication", "ClusterTriggerAuthentication"] = "TriggerAuthentication"


class Trigger(Strict):
    type: Literal["rabbitmq"]
    name: str | None = None
    metadata: RabbitMQ
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"
    use_cached_metrics: bool = False
    authentication_ref: Reference


class ScaledObjectSpec(Strict):
    scale_target_ref: Target
    polling_interval: Annotated[int, Field(ge=1)] = 30
    cooldown_period: Count = 300
    initial_cooldown_period: Count = 0
    idle_replica_count: Count | None = None
    min_replica_count: Count = 0
    max_replica_count: Annotated[int, Field(ge=1)] = 100
    advanced: Advanced | None = None
    triggers: Annotated[list[Trigger], Field(min_length=1)]

    @model_validator(mode="after")
    def _fewest_and_most(self) -> "ScaledObjectSpec":
        if self.min_replica_count > self.max_replica_count:
            raise ValueError("minReplicaCount must be less than or equal to maxReplicaCount")
        return self


class ScaledObject(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: Metadata
    spec: ScaledObjectSpec


class SecretKey(Strict):
    parameter: Literal[
        "host", "protocol", "vhostName", "username", "password", "ca", "cert", "key", "tls"
    ]
    name: Name
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$")]


class TriggerAuthenticationSpec(Strict):
    secret_target_ref: Annotated[list[SecretKey], Field(min_length=1)]


class TriggerAuthentication(Strict):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["TriggerAuthentication"]
    metadata: Metadata
    spec: TriggerAuthenticationSpec


def check(manifest: dict[str, Any]) -> None:
    """Refuse what KEDA would refuse, or not understand."""
    kinds: dict[str, type[Strict]] = {
        "ScaledObject": ScaledObject,
        "TriggerAuthentication": TriggerAuthentication,
    }
    kinds[manifest["kind"]].model_validate(manifest)
