"""``ProfileRenderer``: Jinja2 templates of values, sandboxed and strict."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

import yaml

from sessionctl.adapters.files import package_folder
from sessionctl.errors import ConfigurationError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionctl.models import JsonObject

SUFFIX: Final = ".yaml.j2"
_HARMLESS: Final = re.compile(r"[A-Za-z0-9._-]+")


def builtin_templates() -> dict[str, str]:
    """Return the profiles that come with the package, by name."""
    folder = package_folder("profiles")
    return {entry.name.removesuffix(SUFFIX): entry.read_text() for entry in folder.glob(f"*{SUFFIX}")}


class JinjaProfiles:
    """Templates by name; those of the platform release replace the built-in ones."""

    def __init__(self, templates: Mapping[str, str]) -> None:
        self._templates = dict(templates)

    def names(self) -> Sequence[str]:
        """See ``ports.ProfileRenderer``."""
        return sorted(self._templates)

    def render(self, profile: str, context: Mapping[str, str]) -> JsonObject:
        """See ``ports.ProfileRenderer``."""
        try:
            template = self._templates[profile]
        except KeyError:
            msg = f"there is no profile {profile!r}"
            raise NotFoundError(msg, hint=f"Profiles: {', '.join(self.names())}") from None
        try:
            document = yaml.safe_load(_fill(profile, template, context))
        except yaml.YAMLError as error:
            msg = f"profile {profile} does not render to YAML: {str(error).splitlines()[0]}"
            raise ConfigurationError(
                msg, hint="Quote values with the tojson filter: {{ user_id | tojson }}."
            ) from error
        if document is None:
            return {}
        if not isinstance(document, dict):
            msg = f"profile {profile} renders to a {type(document).__name__}, not to a mapping of values"
            raise ConfigurationError(msg, hint="A profile is values.yaml of charts/user-session.")
        try:
            values: JsonObject = json.loads(json.dumps(document))
        except (TypeError, ValueError) as error:
            msg = f"profile {profile} holds a value that JSON cannot carry: {error}"
            raise ConfigurationError(msg, hint="Quote dates and keys that are not text.") from error
        return values


def _fill(profile: str, template: str, context: Mapping[str, str]) -> str:
    if not any(mark in template for mark in ("{{", "{%", "{#")):
        return template
    from jinja2 import StrictUndefined, TemplateError  # noqa: PLC0415 - most profiles are plain values
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, finalize=_finalize)
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": True}
    try:
        return environment.from_string(template).render(**context)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        msg = f"profile {profile}: {error}"
        raise ConfigurationError(msg, hint="Names a profile may use: user_id, tenant, uuid, profile.") from error


def _finalize(value: object) -> object:
    """Let text into the document only as JSON (tojson makes Markup), or if it cannot mean anything to YAML."""
    if isinstance(value, str) and not hasattr(value, "__html__") and not _HARMLESS.fullmatch(value):
        msg = f"{value!r} must be quoted with the tojson filter"
        raise ValueError(msg)
    return value
