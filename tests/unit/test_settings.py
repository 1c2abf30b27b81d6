from __future__ import annotations

from datetime import timedelta

import pytest

from sessionctl.errors import ConfigurationError
from sessionctl.models import JsonObject
from sessionctl.settings import Settings, load_settings, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2m", 120), ("1h30m", 5400), ("7d", 604800), ("500ms", 0.5), ("0s", 0)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "90", "s", "1.5h", "-1s", "1 m", "1w", "P1D", "9" * 30 + "d"])
def test_a_bad_duration_names_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


def test_the_environment_overrides_the_file() -> None:
    document: JsonObject = {"idle": {"timeout": "60s", "touchInterval": "1s"}}
    settings = load_settings("file", document, {"SESSIONCTL_IDLE__TIMEOUT": "6s", "SESSIONCTL_HELM": "/x/helm"})
    assert settings.idle.release_after == timedelta(seconds=7)
    assert document == {"idle": {"timeout": "60s", "touchInterval": "1s"}}


@pytest.mark.parametrize(
    ("document", "environment", "cause"),
    [
        ({"idel": {}}, {}, "idel: Extra inputs"),
        ({"idle": {"timeot": "6s"}}, {}, "idle.timeot: Extra inputs"),
        ({"idle": {"timeout": 6}}, {}, "idle.timeout: .*not a duration"),
        ({}, {"SESSIONCTL_IDLE__TIMEOT": "6s"}, "idle.timeot: Extra inputs"),
        (
            {"scaling": {"pollingInterval": 10, "cooldownPeriod": 21}},
            {},
            "scaling: cooldownPeriod must be at least 2 x",
        ),
        ({"idle": "6s"}, {}, "idle: "),
        ({"sweep": {"interval": "0s"}}, {}, "sweep.interval: must be longer than zero"),
        ({"sessions": {"startTimeout": "0s"}}, {}, "sessions.startTimeout: must be longer than zero"),
        ({"helm": {"timeout": "5m"}}, {}, "the document: reconcile.grace must be longer than helm.timeout"),
    ],
)
def test_a_wrong_setting_is_named(document: JsonObject, environment: dict[str, str], cause: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the file: {cause}"):
        load_settings("the file", document, environment)


def test_the_defaults_are_those_of_the_design() -> None:
    idle = Settings().idle
    assert (idle.timeout, idle.touch_interval, idle.unknown_limit) == (
        timedelta(seconds=120),
        timedelta(seconds=2),
        timedelta(hours=1),
    )
    assert Settings().sessions.start_timeout == timedelta(minutes=10)
