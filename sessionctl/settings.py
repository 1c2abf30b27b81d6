"""Settings: one frozen tree, read from the platform release's ConfigMap, then the environment.

``SESSIONCTL_<SECTION>__<FIELD>`` overrides a value of the file, with the field in snake case:
``SESSIONCTL_IDLE__TIMEOUT=6s``. Secrets are not settings.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Final

from sessionctl.errors import ConfigurationError
from sessionctl.models import JsonObject, JsonValue
from sessionctl.sections import Section, SettingError, count, filled, key_of, positive, text, texts

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
_PAGE: Final = re.compile(r"https?://[A-Za-z0-9][-A-Za-z0-9.]*(:[0-9]+)?(/[-A-Za-z0-9._~/]*)?")


def parse_duration(value: object) -> timedelta:
    """Read ``90s``, ``2m``, ``1h30m`` or ``7d``; raises ValueError."""
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


def page_address(value: JsonValue) -> str:
    """Take nothing, or the address of a page, which becomes part of the router's configuration; raises ValueError."""
    if value != "" and not _PAGE.fullmatch(text(value)):
        msg = f"should be the address of a page without a query, as https://app.example.com/editor, not {value!r:.80}"
        raise ValueError(msg)
    return text(value)


Duration = Annotated[timedelta, parse_duration]
PositiveDuration = Annotated[timedelta, parse_duration, _positive]


class ProbeKind(StrEnum):
    """Whom the sweeper asks whether somebody works."""

    NONE = "none"
    AGENT = "agent"


class EditorIdle(StrEnum):
    """What counts as work in the editor."""

    INPUT = "input"
    CONNECTION = "connection"


class LogLevel(StrEnum):
    """What is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class IdleSettings(Section):
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


@dataclass(frozen=True, kw_only=True)
class SweepSettings(Section):
    """How often the loop looks."""

    interval: PositiveDuration = timedelta(seconds=1)
    gate_interval: PositiveDuration = timedelta(seconds=2)


@dataclass(frozen=True, kw_only=True)
class SessionSettings(Section):
    """What every session gets."""

    domain: Annotated[str, filled] = "example.com"
    retention: Duration = timedelta(days=7)
    start_timeout: PositiveDuration = timedelta(minutes=10)
    max_lifetime: Duration = timedelta()
    """Age at which a session is deleted, once it sleeps; zero: never."""
    max_waiting: Annotated[int, positive] = 100
    values: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScalingSettings(Section):
    """KEDA's two numbers, in seconds: a net that only ever adds time."""

    polling_interval: Annotated[int, positive] = 10
    cooldown_period: Annotated[int, positive] = 30

    @property
    def hold(self) -> timedelta:
        """How long KEDA may still act on an empty list that it read just before there was demand."""
        return timedelta(seconds=self.polling_interval + 5)

    def check(self) -> None:
        """KEDA must look twice before it may put anything to sleep."""
        least = 2 * self.polling_interval + 2
        if self.cooldown_period < least:
            msg = f"cooldownPeriod must be at least 2 x pollingInterval + 2 = {least}, not {self.cooldown_period}"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class HelmSettings(Section):
    """How the Helm command is run."""

    timeout: PositiveDuration = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class ReconcileSettings(Section):
    """Repair of what was cut off midway."""

    grace: Duration = timedelta(minutes=2)
    interval: PositiveDuration = timedelta(minutes=1)


@dataclass(frozen=True, kw_only=True)
class QuotaSettings(Section):
    """What one user or tenant may have through the API; 0 is no limit."""

    sessions_per_user: Annotated[int, count] = 20
    awake_per_tenant: Annotated[int, count] = 0
    waiting_bytes_per_tenant: Annotated[int, count] = 64 << 20
    """Of messages that wait for all its sessions together: Redis holds them."""


@dataclass(frozen=True, kw_only=True)
class EventSettings(Section):
    """How much of a session's history is kept."""

    max_length: Annotated[int, positive] = 2000
    max_bytes: Annotated[int, positive] = 256 * 1024
    """Of each session, also those that sleep: all of them together must fit into Redis."""
    recent: Duration = timedelta(seconds=30)
    """What is younger is kept beyond those two: whoever follows a reply and is cut off finds all of it."""
    recent_bytes: Annotated[int, positive] = 16 << 20
    """The most that is ever kept of a session: twice a whole reply, which may come faster than anybody reads."""


@dataclass(frozen=True, kw_only=True)
class ApiSettings(Section):
    """The Session API. Rates are requests a second; a burst is how many may come at once."""

    key_rate: Annotated[int, positive] = 100
    key_burst: Annotated[int, positive] = 300
    user_rate: Annotated[int, positive] = 10
    user_burst: Annotated[int, positive] = 30
    max_message_bytes: Annotated[int, positive] = 256 * 1024
    cors_origins: Annotated[tuple[str, ...], texts] = ()
    """Origins whose pages may call the API from a browser."""
    token_lifetime: PositiveDuration = timedelta(minutes=15)
    code_lifetime: PositiveDuration = timedelta(seconds=60)
    idempotency_lifetime: PositiveDuration = timedelta(hours=24)
    drain: Duration = timedelta(seconds=5)
    """How long a manager that is told to end goes on answering, so that nobody is sent to it any more."""


@dataclass(frozen=True, kw_only=True)
class EditorSettings(Section):
    """Access to the editors (DESIGN 8)."""

    login_url: Annotated[str, page_address] = ""
    """Page of the application that sends a browser back with a login; empty: a page that says where to look for it."""
    cookie_lifetime: PositiveDuration = timedelta(hours=12)


@dataclass(frozen=True, kw_only=True)
class ChatSettings(Section):
    """Delivery of chats to agents."""

    lock_lifetime: PositiveDuration = timedelta(seconds=10)
    """After so long another manager goes on where one has died."""
    pending_interval: PositiveDuration = timedelta(seconds=1)
    """How often it is looked for chats that nobody delivers."""
    silence_limit: PositiveDuration = timedelta(seconds=60)
    """An agent that sends nothing for so long, not even a sign of life, is cut off and asked again."""
    retry_limit: PositiveDuration = timedelta(minutes=10)
    """A message that no ready agent takes, or goes on with, for so long gets its outcome."""
    max_reply_bytes: Annotated[int, positive] = 8 << 20
    tenant_rate_bytes: Annotated[int, positive] = 4 << 20
    """Bytes of replies a second that all agents of a tenant may have one manager write into Redis."""
    max_wait: PositiveDuration = timedelta(seconds=60)
    """The longest ``?wait=``."""


@dataclass(frozen=True, kw_only=True)
class PortalSettings(Section):
    """The demo portal. It asks for no password: anybody can be anybody."""

    enabled: bool = False
    max_sessions: Annotated[int, positive] = 50
    """Of the tenant ``demo``: nobody else limits how many names there are."""


@dataclass(frozen=True, kw_only=True)
class LoggingSettings(Section):
    """Log output."""

    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, kw_only=True)
class Settings(Section):
    """The whole tree; the platform chart's ``config`` block is this file, copied."""

    idle: IdleSettings = IdleSettings()
    sweep: SweepSettings = SweepSettings()
    sessions: SessionSettings = SessionSettings()
    scaling: ScalingSettings = ScalingSettings()
    helm: HelmSettings = HelmSettings()
    reconcile: ReconcileSettings = ReconcileSettings()
    quotas: QuotaSettings = QuotaSettings()
    events: EventSettings = EventSettings()
    api: ApiSettings = ApiSettings()
    editor: EditorSettings = EditorSettings()
    chat: ChatSettings = ChatSettings()
    portal: PortalSettings = PortalSettings()
    logging: LoggingSettings = LoggingSettings()

    def check(self) -> None:
        """An install under way must not look cut off."""
        if self.reconcile.grace <= self.helm.timeout:
            msg = "reconcile.grace must be longer than helm.timeout, or installs under way would be undone"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class PlatformRedis(Section):
    """Where the platform release says its Redis is."""

    host: str
    port: int
    database: int = 0
    tls: bool = False
    secret_name: str
    pod_selector: str = ""


@dataclass(frozen=True, kw_only=True)
class PlatformKeda(Section):
    """The Redis user KEDA polls with, and the Secret in the sessions namespace that holds its password."""

    secret_name: str
    username: str = "keda"


@dataclass(frozen=True, kw_only=True)
class Platform(Section):
    """``platform.yaml`` of the platform release: what the chart computed."""

    version: str
    sessions_namespace: str
    redis: PlatformRedis
    keda: PlatformKeda
    platform_key_secret: str
    profiles_config_map: str


def _explain(source: str, error: SettingError) -> ConfigurationError:
    return ConfigurationError(
        f"{source}: {'.'.join(error.place) or 'the document'}: {error}",
        hint="Mend the platform release's values, or the SESSIONCTL_ variable in use.",
    )


def _overrides(environment: Mapping[str, str]) -> JsonObject:
    tree: JsonObject = {}
    for name, value in environment.items():
        section, separator, leaf = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            branch = tree.setdefault(section, {})
            if isinstance(branch, dict):
                branch[key_of(leaf)] = value
    return tree


def load_settings(source: str, document: JsonObject, environment: Mapping[str, str]) -> Settings:
    """Validate ``document`` with the environment's overrides; ``source`` names it in a ConfigurationError."""
    merged: JsonObject = {name: dict(part) if isinstance(part, dict) else part for name, part in document.items()}
    for section, values in _overrides(environment).items():
        present = merged.setdefault(section, {})
        if isinstance(present, dict) and isinstance(values, dict):
            present.update(values)
    try:
        return Settings.read(merged)
    except SettingError as error:
        raise _explain(source, error) from error


def load_platform(source: str, document: JsonObject) -> Platform:
    """Validate ``platform.yaml``; raises ConfigurationError."""
    try:
        return Platform.read(document)
    except SettingError as error:
        raise _explain(source, error) from error
