"""Local clusters for fixtures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tools.errors import ToolError
from tools.localcluster import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    from tools.localcluster import ClusterSpec


def start_or_skip(spec: ClusterSpec, directory: Path) -> LocalCluster:
    """Start a cluster that ends with this process.

    On a laptop without the tools the other tests still mean something; in CI nothing may be left out.
    """
    try:
        return LocalCluster.start(spec, directory, os.getpid())
    except ToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
