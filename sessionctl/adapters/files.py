"""Files that come with the package, and YAML documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

import sessionctl

if TYPE_CHECKING:
    from sessionctl.models import JsonValue


def package_folder(*parts: str) -> Path:
    """Return a folder inside the installed package."""
    return Path(sessionctl.__file__).parent.joinpath(*parts)


def load_yaml(text: str) -> JsonValue:
    """Parse one YAML document, by libyaml where PyYAML has it; raises yaml.YAMLError."""
    document: JsonValue = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return document
