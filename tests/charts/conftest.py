"""Fixtures of the chart tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tools.localcluster.platform import write_placeholder_charts
from tools.toolchain import ensure

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _dependencies() -> None:
    """Helm refuses a chart whose dependencies are absent, also those that are switched off."""
    write_placeholder_charts()


@pytest.fixture(scope="session")
def helm() -> Path:
    """Return the pinned Helm."""
    return ensure(["helm"]).binary("helm")
