"""The API called in every way its document allows, and some that it does not: no 5xx, nothing undocumented.

`python -m pytest tests/api/test_schemathesis.py` with SESSIONCTL_FUZZ=10000 makes about so many calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from http import HTTPStatus
from itertools import count
from typing import Any, Final

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from sessionctl.adapters.metrics import NoMetrics
from sessionctl.api.app import build
from sessionctl.models import SessionId
from sessionctl.settings import ApiSettings
from tests.api.manager import Manager, serving
from tests.api.world import make_keys
from tests.support.census import Census
from tests.support.sessionctl_cli import Cli
from tools.localcluster import LocalCluster

KEYS, STORED = make_keys()
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
FEW: Final = 300
CALLS: Final = int(os.environ.get("SESSIONCTL_FUZZ", FEW))
OPERATIONS: Final = 17
UNLIMITED = {f"SESSIONCTL_API__{name}": "1000000" for name in ("KEY_RATE", "KEY_BURST", "USER_RATE", "USER_BURST")}


@pytest.fixture(scope="module")
def manager(
    platform: LocalCluster, sessions: dict[str, SessionId], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Manager]:
    folder = tmp_path_factory.mktemp("fuzzed")
    with serving(Cli.on(platform), folder, STORED, "--drain", "0s", **UNLIMITED) as running:
        yield running


MADE: Final[list[str]] = []


@pytest.fixture(scope="module", autouse=True)
def nothing_left(platform: LocalCluster) -> Iterator[None]:
    """The sessions that were made here end with it."""
    yield
    Census(platform).wipe(MADE)


@schemathesis.openapi.from_dict(build(ApiSettings(), NoMetrics()).openapi()).parametrize()
@settings(
    max_examples=max(1, CALLS // OPERATIONS),
    deadline=None,
    derandomize=CALLS <= FEW,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_call_is_answered_by_a_bug_or_by_what_is_not_documented(
    case: schemathesis.Case[Any], manager: Manager, mine: SessionId
) -> None:
    # Half of the calls that name a session name one that there is; a stream of its events would never end.
    if case.path_parameters and "events" not in case.path and case.method != "DELETE" and next(_turns) % 2:
        case.path_parameters["uuid"] = mine
    answer = case.call_and_validate(base_url=manager.url, headers={"X-API-Key": KEYS["all"]}, checks=CHECKS, timeout=60)
    if case.path == "/session/create" and answer.status_code == HTTPStatus.CREATED:
        MADE.append(answer.json()["uuid"])


_turns = count()
