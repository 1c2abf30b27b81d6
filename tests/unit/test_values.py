from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from sessionctl.adapters.profiles import JinjaProfiles, builtin_templates
from sessionctl.core.values import ValuesBuilder, merge
from sessionctl.errors import ConfigurationError, NotFoundError
from sessionctl.models import JsonObject, Owner
from sessionctl.settings import Platform, PlatformKeda, PlatformRedis, SessionSettings, Settings

OWNER = Owner('o\'brien "{{ 7*7 }}" ü', "acme", "default", datetime(2026, 1, 2, tzinfo=UTC))
PLATFORM = Platform(
    version="1",
    sessions_namespace="sessions",
    redis=PlatformRedis(host="redis", port=6379, secret_name="r"),
    keda=PlatformKeda(secret_name="sessionctl-keda"),
    platform_key_secret="k",
    profiles_config_map="p",
)


def build(profile_values: JsonObject, **platform_values: JsonObject) -> JsonObject:
    settings = Settings(sessions=SessionSettings(values=dict(platform_values)))
    return ValuesBuilder(settings, PLATFORM, "sessionctl").build(OWNER, profile_values, "token")


def test_the_profile_wins_over_the_platform_and_the_rest_is_ours() -> None:
    values = build({"resources": {"limits": {"memory": "8Gi"}}}, resources={"limits": {"memory": "1Gi", "cpu": "1"}})
    assert values["resources"] == {"limits": {"memory": "8Gi", "cpu": "1"}}
    assert values["redis"] == {"address": "redis:6379", "database": 0, "tls": False, "kedaSecret": "sessionctl-keda"}
    session = values["session"]
    assert isinstance(session, dict)
    assert session["userId"] == OWNER.user_id
    assert json.loads(str(session["values"])) == {"resources": {"limits": {"memory": "8Gi"}}}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("session", {"session": {}}),
        ("redis", {"redis": {}}),
        ("platform", {"platform": {}}),
        ("scaling", {"scaling": {}}),
        ("agent.token", {"agent": {"kind": "echo", "token": "mine"}}),
        ("agent.token", {"agent": "echo"}),
    ],
)
def test_a_profile_cannot_take_what_is_ours(name: str, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"profile sets {name}, which belongs to sessionctl"):
        build(values)
    with pytest.raises(ConfigurationError, match=f"sessions.values sets {name}, which belongs to sessionctl"):
        build({}, **values)


def test_a_profile_chooses_what_answers_and_the_token_is_ours() -> None:
    values = build({"agent": {"kind": "command", "command": ["ai"]}}, agent={"kind": "echo", "onInterrupt": "retry"})
    assert values["agent"] == {"kind": "command", "command": ["ai"], "onInterrupt": "retry", "token": "token"}


def test_merge_replaces_lists_and_leaves_its_arguments_alone() -> None:
    base: JsonObject = {"a": {"b": 1, "c": [1, 2]}}
    assert merge(base, {"a": {"c": [3]}, "d": None}) == {"a": {"b": 1, "c": [3]}, "d": None}
    assert base == {"a": {"b": 1, "c": [1, 2]}}


def render(template: str, user_id: str = "alice") -> JsonObject:
    return JinjaProfiles({"p": template}).render("p", {"user_id": user_id, "tenant": "t", "uuid": "u", "profile": "p"})


def test_built_in_profiles_render() -> None:
    profiles = JinjaProfiles(builtin_templates())
    assert {"default", "large"} <= set(profiles.names())
    for name in profiles.names():
        profiles.render(name, {"user_id": "a", "tenant": "t", "uuid": "u", "profile": name})


@pytest.mark.parametrize("user_id", ["a'b\"c", "{{ 7*7 }}", "x: [y", "é\u2028👩‍💻", "</script>", "a\\nb", "null"])
def test_a_user_id_cannot_leave_its_place_in_a_profile(user_id: str) -> None:
    assert render("env: {NAME: {{ user_id | tojson }}}", user_id) == {"env": {"NAME": user_id}}


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("a: {{ nobody }}", "'nobody' is undefined"),
        ("a: {{ user_id ~ ' x' }}", "must be quoted with the tojson filter"),
        ("a: {{ user_id.__class__.__mro__ }}", "unsafe"),
        ("a: {% for %}", "profile p: "),
        ("a: [", "does not render to YAML"),
        ("- a", "not to a mapping"),
        ("a: 2026-01-01", "JSON cannot carry"),
    ],
)
def test_a_broken_profile_is_explained(template: str, cause: str) -> None:
    with pytest.raises(ConfigurationError, match=cause):
        render(template)


@pytest.mark.parametrize("user_id", ["bob\u2028image: evil", "x: y", "", "a b", "#", "*", "{a: 1}"])
def test_a_profile_that_forgets_to_quote_a_user_id_is_refused(user_id: str) -> None:
    with pytest.raises(ConfigurationError, match="must be quoted with the tojson filter"):
        render("env:\n  OWNER: {{ user_id }}", user_id)


def test_plain_names_and_numbers_need_no_quotes() -> None:
    assert render("a: {{ tenant }}\nb: {{ 2 * 3 }}") == {"a": "t", "b": 6}


def test_an_empty_profile_sets_nothing() -> None:
    assert render("") == {}


def test_an_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(NotFoundError) as error:
        JinjaProfiles({"small": "", "large": ""}).render("huge", {})
    assert error.value.hint == "Profiles: large, small"
