"""Settings: one frozen tree, read from the platform release's ConfigMap, then the environment.

``SESSIONCTL_<SECTION>__<FIELD>`` overrides a value of the file, with the field in snake case:
``SESSIONCTL_IDLE__TIMEOUT=6s``. Secrets are not settings.
"""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from sessionctl.errors import ConfigurationError
from sessionctl.models import JsonObject

if TYPE_CHECKING:
    from collections.abc import Mapping

ENVIRONMENT_PREFIX: Final = "SESSIONCTL_"

_UNITS: Final = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
_DURATION: Final = re.compile(r"(?:\d+(?:ms|s|m|h|d))+")
_DURATION_PART: Final = re.compile(r"(\d+)(ms|s|m|h|d)")


def parse_duration(value: object) -> timedelta:
    """Read ``90s``, ``2m``, ``1h30m`` or ``7d``; raises ValueError (pydantic turns it into its own error)."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        msg = f"{value!r} is not a duration: write for example 90s, 2m, 1h30m or 7d"
        raise ValueError(msg)
    try:
        return sum((int(count) * _UNITS[unit] for count, unit in _DURATION_PART.findall(value)), timedelta())
    except OverflowError:
        msg = f"{value!r} is too long a duration"
        raise ValueError(msg) from None


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta():
        msg = "must be longer than zero"
        raise ValueError(msg)
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
PositiveDuration = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_positive)]


class ProbeKind(StrEnum):
    """Whom the sweeper asks whether somebody works."""

    NONE = "none"
    AGENT = "agent"


class EditorIdle(StrEnum):
    """What counts as work in the editor."""

    INPUT = "input"
    CONNECTION = "connection"


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        validate_default=True,
        defer_build=True,
    )


class IdleSettings(_Section):
    """When a session counts as idle (DESIGN 5)."""

    timeout: PositiveDuration = timedelta(seconds=120)
    touch_interval: PositiveDuration = timedelta(seconds=2)
    probe: ProbeKind = ProbeKind.AGENT
    unknown_limit: Duration = timedelta(hours=1)
    hold_limit: Duration = timedelta(hours=8)
    editor: EditorIdle = EditorIdle.INPUT
    editor_limit: Duration = timedelta(hours=8)

    @property
    def release_after(self) -> timedelta:
        """Age of the last activity at which a session may sleep: a touch may be this much behind."""
        return self.timeout + self.touch_interval


class SweepSettings(_Section):
    """How often the loop looks."""

    interval: PositiveDuration = timedelta(seconds=1)
    gate_interval: PositiveDuration = timedelta(seconds=2)


class SessionSettings(_Section):
    """What every session gets."""

    domain: str = Field(default="example.com", min_length=1)
    retention: Duration = timedelta(days=7)
    start_timeout: PositiveDuration = timedelta(minutes=10)
    max_waiting: int = Field(default=100, ge=1)
    values: dict[str, JsonValue] = Field(default_factory=dict)


class ScalingSettings(_Section):
    """KEDA's two numbers, in seconds: a net that only ever adds time."""

    polling_interval: int = Field(default=10, ge=1)
    cooldown_period: int = Field(default=30, ge=1)

    @model_validator(mode="after")
    def _cooldown_spans_two_polls(self) -> Self:
        least = 2 * self.polling_interval + 2
        if self.cooldown_period < least:
            msg = f"cooldownPeriod must be at least 2 x pollingInterval + 2 = {least}, not {self.cooldown_period}"
            raise ValueError(msg)
        return self


class HelmSettings(_Section):
    """How the Helm command is run."""

    timeout: PositiveDuration = timedelta(seconds=60)


class ReconcileSettings(_Section):
    """Repair of what was cut off midway."""

    grace: Duration = timedelta(minutes=2)


class LoggingSettings(_Section):
    """Log output."""

    level: str = Field(default="info", pattern="^(debug|info|warning|error)$")


class Settings(_Section):
    """The whole tree; the platform chart's ``config`` block is this file, copied."""

    idle: IdleSettings = Field(default_factory=IdleSettings)
    sweep: SweepSettings = Field(default_factory=SweepSettings)
    sessions: SessionSettings = Field(default_factory=SessionSettings)
    scaling: ScalingSettings = Field(default_factory=ScalingSettings)
    helm: HelmSettings = Field(default_factory=HelmSettings)
    reconcile: ReconcileSettings = Field(default_factory=ReconcileSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)

    @model_validator(mode="after")
    def _grace_outlasts_helm(self) -> Self:
        if self.reconcile.grace <= self.helm.timeout:
            msg = "reconcile.grace must be longer than helm.timeout, or installs under way would be undone"
            raise ValueError(msg)
        return self


class PlatformRedis(_Section):
    """Where the platform release says its Redis is."""

    host: str
    port: int
    database: int = 0
    tls: bool = False
    secret_name: str
    pod_selector: str = ""


class PlatformKeda(_Section):
    """The Redis user KEDA polls with, and the Secret in the sessions namespace that holds its password."""

    secret_name: str
    username: str = "keda"


class Platform(_Section):
    """``platform.yaml`` of the platform release: what the chart computed."""

    version: str
    sessions_namespace: str
    redis: PlatformRedis
    keda: PlatformKeda
    platform_key_secret: str
    profiles_config_map: str


def _explain(source: str, error: ValidationError) -> ConfigurationError:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the document"
    return ConfigurationError(
        f"{source}: {where}: {first['msg'].removeprefix('Value error, ')}",
        hint="Mend the platform release's values, or the SESSIONCTL_ variable in use.",
    )


def _overrides(environment: Mapping[str, str]) -> JsonObject:
    tree: JsonObject = {}
    for name, value in environment.items():
        section, separator, leaf = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            branch = tree.setdefault(section, {})
            if isinstance(branch, dict):
                branch[to_camel(leaf)] = value
    return tree


def load_settings(source: str, document: JsonObject, environment: Mapping[str, str]) -> Settings:
    """Validate ``document`` with the environment's overrides; ``source`` names it in a ConfigurationError."""
    merged: JsonObject = {name: dict(part) if isinstance(part, dict) else part for name, part in document.items()}
    for section, values in _overrides(environment).items():
        present = merged.setdefault(section, {})
        if isinstance(present, dict) and isinstance(values, dict):
            present.update(values)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise _explain(source, error) from error


def load_platform(source: str, document: JsonObject) -> Platform:
    """Validate ``platform.yaml``; raises ConfigurationError."""
    try:
        return Platform.model_validate(document)
    except ValidationError as error:
        raise _explain(source, error) from error
