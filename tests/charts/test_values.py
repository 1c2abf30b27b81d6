"""values.yaml, values.schema.json and the settings of sessionctl say the same."""

from __future__ import annotations

import json
from dataclasses import fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from sessionctl import __version__
from sessionctl.sections import key_of
from sessionctl.settings import Settings, load_platform, load_settings
from tests.charts.rendering import CHARTS, Scenario, rendered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREIGN = {"keda", "nginx-ingress", "global"}
"""Values of other charts, checked by these; `global` is Helm's own."""

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


def test_platform_schema_knows_every_setting() -> None:
    """The `config` block and the tree of settings have the same keys."""
    node = _schema("platform")["properties"]["config"]["properties"]
    assert {section: set(below["properties"]) for section, below in node.items()} == {
        key_of(section.name): {key_of(field.name) for field in fields(getattr(Settings(), section.name))}
        for section in fields(Settings)
    }


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
