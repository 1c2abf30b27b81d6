"""values.yaml, values.schema.json and the settings of sessionctl say the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import pytest
import yaml

from sessionctl import __version__
from sessionctl.agent.serve import ANSWER_SECONDS, MESSAGE_SECONDS
from sessionctl.agent.settings import OpenAISettings
from sessionctl.agent.settings import load_settings as load_agent_settings
from sessionctl.sections import count, filled, key_of, positive, texts
from sessionctl.settings import Duration, PositiveDuration, Settings, load_platform, load_settings, page_address
from tests.charts.rendering import CHARTS, Scenario, pod_templates, rendered, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREIGN = {"keda", "nginx-ingress", "global"}
"""Values of other charts, checked by these; `global` is Helm's own."""
NOWHERE = {"HOME": "/nonexistent", "KUBECONFIG": "/dev/null"}

both = pytest.mark.parametrize("chart", ["user-session", "platform"])


def _schema(chart: str) -> dict[str, Any]:
    return json.loads((CHARTS / chart / "values.schema.json").read_text())  # type: ignore[no-any-return]


def _values(chart: str) -> dict[str, Any]:
    return yaml.safe_load((CHARTS / chart / "values.yaml").read_text())  # type: ignore[no-any-return]


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node


def _properties(schema: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, below in node.get("properties", {}).items():
        if path or name not in FOREIGN:
            found = _resolve(schema, below)
            yield f"{path}.{name}", found
            yield from _properties(schema, found, f"{path}.{name}")


def _keys(schema: dict[str, Any], values: dict[str, Any], node: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if path or name not in FOREIGN:
            yield f"{path}.{name}"
            below = _resolve(schema, node.get("properties", {}).get(name, {}))
            if isinstance(value, dict) and "properties" in below:
                yield from _keys(schema, value, below, f"{path}.{name}")


@both
def test_schema_and_values_have_the_same_keys(chart: str) -> None:
    """A key that only one of them has is a typo, or an option nobody can find."""
    schema = _schema(chart)
    rare = {".resources.claims", ".probes.readiness.initialDelaySeconds"}
    rare |= {".probes.liveness.initialDelaySeconds"}
    assert {path for path, _ in _properties(schema, schema)} - rare == set(_keys(schema, _values(chart), schema))


@both
def test_schema_refuses_unknown_keys(chart: str) -> None:
    """Every block of ours is closed: a misspelt key must not be ignored."""
    schema = _schema(chart)
    assert schema["additionalProperties"] is False
    blocks = [(path, node) for path, node in _properties(schema, schema) if "properties" in node]
    assert [path for path, node in blocks if node.get("additionalProperties") is not False] == []


@both
def test_every_key_is_documented(chart: str) -> None:
    """helm-docs takes the README from these comments."""
    schema = _schema(chart)
    lines = (CHARTS / chart / "values.yaml").read_text().splitlines()
    leaves = [path for path, node in _properties(schema, schema) if "properties" not in node]
    names = {path.rpartition(".")[2] for path in leaves}
    documented = {line.split(":")[0].strip() for above, line in pairwise(lines) if above.strip().startswith("#")}
    in_documented_block = {"periodSeconds", "timeoutSeconds", "failureThreshold", "initialDelaySeconds"}
    in_documented_block |= {"requests", "limits", "claims"}
    assert names - documented - in_documented_block == set()


@both
def test_one_version(chart: str) -> None:
    """Package, image and both charts are released together."""
    manifest = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text())
    assert (manifest["version"], manifest["appVersion"]) == (__version__, __version__)


def test_platform_defaults_are_the_settings() -> None:
    """A setting that is left out means the same with and without the chart."""
    assert load_settings("values.yaml", _values("platform")["config"], {}) == Settings()


def test_platform_schema_is_that_of_the_settings() -> None:
    """The `config` block refuses what sessionctl would refuse: an install fails, not a pod."""
    schema = _schema("platform")
    node = schema["properties"]["config"]["properties"]
    wanted = {
        key_of(section.name): {
            key_of(field.name): _expected(field.type) for field in fields(getattr(Settings(), section.name))
        }
        for section in fields(Settings)
    }
    found = {
        section: {key: _bounds(schema, below) for key, below in block["properties"].items()}
        for section, block in node.items()
    }
    assert found == wanted


def _expected(kind: Any) -> tuple[str, object]:
    steps = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
    if kind in (Duration, PositiveDuration):
        return "duration", kind == PositiveDuration
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return "enum", sorted(kind)
    if texts in steps:
        return "texts", None
    if page_address in steps:
        return "page", None
    if filled in steps:
        return "text", None
    if get_origin(kind) is Mapping:
        return "mapping", None
    if kind is bool:
        return "flag", None
    assert steps in {(positive,), (count,)}, kind
    return "number", int(positive in steps)


def _bounds(schema: dict[str, Any], node: dict[str, Any]) -> tuple[str, object]:
    if "$ref" in node:
        names = {"#/$defs/duration": False, "#/$defs/positiveDuration": True}
        return "duration", names[node["$ref"]]
    if "enum" in node:
        return "enum", sorted(node["enum"])
    match node["type"]:
        case "boolean":
            return "flag", None
        case "array":
            return "texts", None
        case "string" if "://" in node["pattern"]:
            return "page", None
        case "string":
            assert not re.search(node["pattern"], "")
            return "text", None
        case "object":
            return "mapping", None
        case kind:
            assert kind == "integer"
            # What KEDA takes is less than any number.
            return "number", 1 if "maximum" in node else node["minimum"]


def test_profiles_of_the_how_to_fit_the_chart(helm: Path) -> None:
    """Whoever copies one makes a session with it."""
    text = (CHARTS.parent / "docs" / "how-to" / "agent.md").read_text()
    shown = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert {yaml.safe_load(profile).get("agent", {}).get("kind") for profile in shown} == {"command", "openai", None}
    scenario = Scenario("user-session", "default")
    argv = ("template", scenario.release, CHARTS / "user-session", "--values", scenario.values, "--values", "-")
    for profile in shown:
        assert run(helm, *argv, env=NOWHERE, stdin=profile)


@pytest.mark.parametrize("name", ["default", "command", "full"])
def test_the_agent_reads_what_the_chart_writes(helm: Path, tmp_path: Path, name: str) -> None:
    """Every text comes back byte for byte, and what is left out of the chart is what the agent would do by itself."""
    scenario = Scenario("user-session", name)
    objects = rendered(helm, scenario)
    ((_, template),) = pod_templates(objects)
    environment = next(item["data"] for item in objects if item["kind"] == "ConfigMap")
    environment |= {each["name"]: each["value"] for each in template["spec"]["containers"][0]["env"]}
    for file in ("TOKEN_FILE", "OPENAI_KEY_FILE"):
        if (variable := f"SESSIONCTL_AGENT_{file}") in environment:
            mounts = {mount["mountPath"] for mount in template["spec"]["containers"][0]["volumeMounts"]}
            assert environment[variable].rpartition("/")[0] in mounts
            environment[variable] = str(tmp_path / file)
            (tmp_path / file).write_text("0123456789abcdef" * 2)
    found = load_agent_settings({**environment, "WORKSPACE": str(tmp_path)})
    given = yaml.safe_load(scenario.values.read_text())["agent"]
    assert found.kind == given.get("kind", "echo")
    assert (found.host, found.port) == ("", 8081)
    if found.command is not None:
        assert (list(found.command.command), found.command.on_interrupt) == (given["command"], given["onInterrupt"])
    if found.openai is not None:
        assert found.openai.key_file == tmp_path / "OPENAI_KEY_FILE"
        openai = given["openai"]
        wanted = OpenAISettings(
            openai["baseUrl"], openai["model"], found.openai.key_file, system_prompt=openai["systemPrompt"]
        )
        assert found.openai == wanted


def test_a_pod_is_not_killed_before_its_agent_ends(helm: Path) -> None:
    """A kill would cut off the record of the message that was just ended."""
    ((_, template),) = pod_templates(rendered(helm, Scenario("user-session", "default")))
    assert template["spec"]["terminationGracePeriodSeconds"] >= MESSAGE_SECONDS + ANSWER_SECONDS + 5


@pytest.mark.parametrize(
    "text", ["0s", "0ms0h", "1s", "90s", "0h1ms", "1h30m", "00010s", "10d0s", "1", "s", "", "1s ", "-1s"]
)
def test_schema_and_settings_agree_on_durations(text: str) -> None:
    """Both patterns against the parser itself."""
    definitions = _schema("platform")["$defs"]
    for name, kind in (("duration", Duration), ("positiveDuration", PositiveDuration)):
        value: object = text
        try:
            for step in get_args(kind)[1:]:
                value = step(value)
        except ValueError:
            value = None
        assert (re.search(definitions[name]["pattern"], text) is not None) == (value is not None), name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://app.example.com/editor",
        "http://localhost:8080/a-b/~c_d.html",
        "https://app.example.com",
        "https://app.example.com/editor?session=1",
        "https://app.example.com/$request_uri",
        "https://app.example.com/;return",
        "https://app.example.com/a b",
        "https://u@app.example.com/",
        "//app.example.com/",
        "javascript:alert(1)",
        "https://",
    ],
)
def test_schema_and_settings_agree_on_the_login_page(text: str) -> None:
    """It becomes part of the router's configuration: both patterns refuse what could mean something there."""
    pattern = _schema("platform")["properties"]["config"]["properties"]["editor"]["properties"]["loginUrl"]["pattern"]
    try:
        taken = page_address(text) == text
    except ValueError:
        taken = False
    assert (re.search(pattern, text) is not None) == taken == ((text + "x").isascii() and _is_page(text))


def _is_page(text: str) -> bool:
    return not text or (text.startswith("http") and len(text) > len("https://") and not set("?$;@ ") & set(text))


def test_manager_is_replaced_when_what_it_reads_changes(helm: Path) -> None:
    """A manager reads its configuration once; a change of anything else must not restart it."""

    def checksum(*settings: str) -> str:
        argv = [part for setting in settings for part in ("--set", setting)]
        text = run(helm, "template", "sessionctl", CHARTS / "platform", "--namespace", "sessionctl", *argv, env=NOWHERE)
        objects = [document for document in yaml.load_all(text, Loader=yaml.CSafeLoader) if document]
        manager = next(o for o in objects if (o["kind"], o["metadata"]["name"]) == ("Deployment", "sessionctl-manager"))
        return str(manager["spec"]["template"]["metadata"]["annotations"]["checksum/config"])

    before = checksum()
    assert checksum("redis.resources.limits.memory=2Gi", "manager.replicas=3") == before
    changes = ("config.idle.timeout=121s", "profiles.small=x", "sessionsNamespace.name=w,keda.watchNamespace=w")
    assert len({before, *(checksum(change) for change in changes)}) == len(changes) + 1


@pytest.mark.parametrize("name", ["default", "full", "external-redis", "existing-namespace"])
def test_sessionctl_reads_what_the_chart_writes(helm: Path, name: str) -> None:
    """The ConfigMap's two documents are the settings and the facts of the platform."""
    scenario = Scenario("platform", name)
    objects = rendered(helm, scenario)
    data = next(item["data"] for item in objects if item["metadata"]["name"] == "sessionctl-platform")
    given = yaml.safe_load(scenario.values.read_text())
    settings = load_settings("config.yaml", yaml.safe_load(data["config.yaml"]), {})
    platform = load_platform("platform.yaml", yaml.safe_load(data["platform.yaml"]))
    assert settings.sessions.domain == given.get("config", {}).get("sessions", {}).get("domain", "example.com")
    assert platform.sessions_namespace == given.get("sessionsNamespace", {}).get("name", "sessions")
    assert platform.redis.host == given.get("externalRedis", {}).get("host", "sessionctl-redis.sessionctl.svc")
    assert bool(platform.redis.pod_selector) == ("externalRedis" not in given)
    for item in objects:
        if item["metadata"]["name"] == platform.redis.secret_name:
            assert item["metadata"]["namespace"] == "sessionctl"
        if item["kind"] == "StatefulSet":
            pod = item["spec"]["template"]["metadata"]["labels"].items()
            assert dict(part.split("=") for part in platform.redis.pod_selector.split(",")).items() <= pod
