"""``Helm`` on the Helm 4 command line: values on standard input, JSON out, errors classified in one function."""

from __future__ import annotations

import json
import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.adapters import process
from sessionctl.errors import (
    ClusterError,
    ConflictError,
    HelmError,
    InvalidRequestError,
    NotFoundError,
    SessionctlError,
)
from sessionctl.models import JsonObject, Release, ReleaseStatus, SessionId

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sessionctl.adapters.process import Outcome
    from sessionctl.models import JsonValue
    from sessionctl.ports import Metrics

VERSION_TIMEOUT: Final = timedelta(seconds=30)
OLDEST: Final = (4, 0, 0)
BROKEN: Final = frozenset({(4, 2, 1)})
"""4.2.1 hangs on deletes (helm/helm#32214)."""
PAGE: Final = 250
"""``helm list`` shows at most 256 rows without saying so."""

_VERSION: Final = re.compile(r"v(\d+)\.(\d+)(?:\.(\d+))?")
_UPDATED: Final = re.compile(r"(\d{4}-\d{2}-\d{2}) (\d{2}:\d{2}:\d{2})(?:\.\d+)? ([+-]\d{4})")
_SECRETIVE: Final = re.compile(r"[0-9a-fA-F]{32,}")
_UNREADABLE: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_CLEARED: Final = ("HELM_NAMESPACE", "HELM_KUBECONTEXT", "HELM_KUBEAPISERVER", "HELM_KUBETOKEN", "HELM_DEBUG")


class HelmCli:
    """One Helm command, one chart, one namespace."""

    def __init__(
        self,
        *,
        binary: str,
        chart: Path,
        namespace: str,
        kubeconfig: str | None,
        context: str | None,
        timeout: timedelta,
        checked: asyncio.Task[str] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._binary = binary
        self._checked = checked
        self._metrics = metrics
        self._chart = chart
        self._timeout = timeout
        self._target = ["--namespace", namespace]
        if kubeconfig:
            self._target += ["--kubeconfig", kubeconfig]
        if context:
            self._target += ["--kube-context", context]

    async def check(self) -> str:
        """See ``ports.Helm``."""
        return await (self._checked or check_version(self._binary))

    async def install(self, session_id: SessionId, values: Mapping[str, JsonValue]) -> None:
        """See ``ports.Helm``."""
        await self._apply("install", session_id, values)

    async def upgrade(self, session_id: SessionId, values: Mapping[str, JsonValue]) -> None:
        """See ``ports.Helm``."""
        await self._apply("upgrade", session_id, values, "--history-max", "2", "--reset-values")

    async def _apply(self, verb: str, session_id: SessionId, values: Mapping[str, JsonValue], *flags: str) -> None:
        # --disable-openapi-validation saves half of the time; server-side apply validates all the same (DESIGN 3).
        await self._run(
            verb,
            session_id,
            str(self._chart),
            "--values",
            "-",
            "--disable-openapi-validation",
            "--no-hooks",
            *flags,
            stdin=encode(values),
        )

    async def uninstall(self, session_id: SessionId) -> None:
        """See ``ports.Helm``."""
        # Not --ignore-not-found, which also ignores every failure to read the release.
        with suppress(NotFoundError):
            await self._run("uninstall", session_id, "--no-hooks")

    async def get_values(self, session_id: SessionId) -> JsonObject:
        """See ``ports.Helm``."""
        outcome = await self._run("get", "values", session_id, "--output", "json")
        values: JsonObject = json.loads(outcome.stdout)
        return values or {}

    async def find_release(self, session_id: SessionId) -> Release | None:
        """See ``ports.Helm``."""
        outcome = await self._run("list", "--output", "json", "--filter", f"^{session_id}$")
        rows = json.loads(outcome.stdout)
        return _release(rows[0]) if rows else None

    async def list_releases(self) -> Sequence[Release]:
        """See ``ports.Helm``."""
        found: list[Release] = []
        while True:
            outcome = await self._run("list", "--output", "json", "--max", str(PAGE), "--offset", str(len(found)))
            page = [_release(row) for row in json.loads(outcome.stdout)]
            found += page
            if len(page) < PAGE:
                return found

    async def _run(self, *arguments: str, stdin: str = "") -> Outcome:
        began = time.monotonic()
        failed = True
        try:
            outcome = await _run_helm([self._binary, *arguments, *self._target], stdin, self._timeout)
            failed = False
        except (NotFoundError, ConflictError):
            failed = False  # an answer, and mostly the expected one
            raise
        finally:
            if self._metrics is not None:
                self._metrics.observe_helm(arguments[0], time.monotonic() - began, failed=failed)
        return outcome


async def check_version(binary: str) -> str:
    """Return Helm's version; raises HelmError for one that is missing, too old or known to be broken."""
    outcome = await _run_helm([binary, "version", "--template", "{{.Version}}"], "", VERSION_TIMEOUT)
    found = _VERSION.match(outcome.stdout.strip())
    version = tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0)
    if version < OLDEST or version in BROKEN:
        msg = f"Helm {outcome.stdout.strip() or 'of unknown version'} cannot be used"
        raise HelmError(msg, hint="Install Helm 4 (not 4.2.1), or point SESSIONCTL_HELM at one.")
    return outcome.stdout.strip()


async def _run_helm(argv: Sequence[str], stdin: str, timeout: timedelta) -> Outcome:
    environment = {name: value for name, value in os.environ.items() if name not in _CLEARED}
    environment |= {"HELM_DRIVER": "secret", "NO_COLOR": "1"}
    try:
        outcome = await process.run(argv, stdin=stdin, environment=environment, timeout=timeout)
    except (FileNotFoundError, PermissionError) as error:
        msg = f"Helm cannot be run: {argv[0]} is not on the PATH or not executable"
        raise HelmError(msg, hint="Install Helm 4, or point SESSIONCTL_HELM at one.") from error
    if outcome.exit_code != 0:
        raise classify(argv[1], outcome.stderr)
    return outcome


def encode(values: Mapping[str, JsonValue]) -> str:
    """Return values as the JSON that Helm's YAML reader gives back unchanged.

    JSON, because half a JSON document never parses: an interrupted caller cannot install with half its values.
    """
    # Helm reads neither surrogate pairs in escapes (so: no ASCII) nor these characters as they are.
    return _UNREADABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(values, ensure_ascii=False))


def classify(verb: str, stderr: str) -> SessionctlError:
    """Turn Helm's standard error (it only knows exit code 1) into the error it means; lengths and secrets are cut."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
    text = _SECRETIVE.sub("<hidden>", " ".join(lines).removeprefix("Error: "))[:600]
    if "release: not found" in text:
        return NotFoundError("Helm has no such release")
    if "cannot reuse a name that is still in use" in text or "release: already exists" in text:
        return ConflictError("a release of that name exists already")
    if "another operation" in text and "in progress" in text:
        return ConflictError("another Helm operation on this release is under way or was cut off")
    if "conflict with" in text and "Apply failed" in text:
        return ConflictError(f"the session moved while Helm was at it: {text}")
    if "specifications of the schema" in text:
        return InvalidRequestError(f"the values do not fit the chart: {text}", hint="See: sessionctl template")
    if "unreachable" in text or "connection refused" in text:
        return ClusterError(f"Helm cannot reach the cluster: {text}", hint="Check with: kubectl cluster-info")
    return HelmError(f"helm {verb} failed: {text or 'without a word'}", stderr=text)


def _release(row: Mapping[str, str]) -> Release:
    found = _UPDATED.match(row["updated"])
    updated = datetime.strptime(" ".join(found.groups()), "%Y-%m-%d %H:%M:%S %z") if found else None
    known = row["status"] in set(ReleaseStatus)
    return Release(
        session_id=SessionId(row["name"]),
        status=ReleaseStatus(row["status"]) if known else ReleaseStatus.UNKNOWN,
        revision=int(row["revision"]),
        updated_at=updated or datetime.fromtimestamp(0, UTC),
        chart=row["chart"],
    )
