from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessionctl.adapters.helm import classify
from sessionctl.cli.boundary import exit_code, one_line
from sessionctl.errors import (
    ClusterError,
    ConflictError,
    DemandGateClosedError,
    HelmError,
    InvalidRequestError,
    NotFoundError,
    SessionctlError,
)


def every_kind(kind: type[SessionctlError] = SessionctlError) -> Iterator[type[SessionctlError]]:
    # Not those that a module keeps to itself, which another test of this process may have loaded.
    if kind.__module__ == SessionctlError.__module__:
        yield kind
    for child in kind.__subclasses__():
        yield from every_kind(child)


def test_every_error_has_a_code_of_its_own_and_an_exit_code() -> None:
    kinds = list(every_kind())
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {exit_code(kind("x")) for kind in kinds} == {1, 2, 3, 4, 5, 6, 7}
    assert exit_code(DemandGateClosedError("x")) == exit_code(ConflictError("x")) == 4


def test_an_error_is_one_line_whatever_it_quotes() -> None:
    assert one_line(SessionctlError("broke.\nbadly\x1b[31m", hint="Mend it.")) == "broke. badly [31m. Mend it."


@pytest.mark.parametrize(
    ("stderr", "kind"),
    [
        ("Error: INSTALLATION FAILED: cannot reuse a name that is still in use", ConflictError),
        ("Error: INSTALLATION FAILED: release: already exists", ConflictError),
        ("Error: uninstall: Release not loaded: x: release: not found", NotFoundError),
        ("Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", ConflictError),
        (
            'Error: UPGRADE FAILED: conflict occurred ... Apply failed with 1 conflict: conflict with "sessionctl"',
            ConflictError,
        ),
        (
            "Error: values don't meet the specifications of the schema(s) in the following chart(s):\nx",
            InvalidRequestError,
        ),
        ('Error: Kubernetes cluster unreachable: Get "https://127.0.0.1:1/version"', ClusterError),
        ("Error: something new", HelmError),
        ("", HelmError),
    ],
)
def test_helm_speaks_only_prose_and_is_understood(stderr: str, kind: type[SessionctlError]) -> None:
    assert type(classify("upgrade", stderr)) is kind


def test_what_helm_says_is_cut_and_carries_no_secret() -> None:
    token = "0123456789abcdef" * 4
    error = classify("install", f"WARNING: noise\nError: {token} " + "x" * 5000)
    assert token not in error.message
    assert "noise" not in error.message
    assert len(error.message) < 700
