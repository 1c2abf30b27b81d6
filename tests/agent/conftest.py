from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.process import AgentProcess, Agents


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    """Agents on a workspace of this test."""
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
def agent(agents: Agents) -> AgentProcess:
    """The real agent, ready."""
    return agents.start().ready()
