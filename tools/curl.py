"""Calls of the Session API as a person makes them: with curl, each command shown as it is run.

What is the same for all of them, the API key with it, is in a file that curl reads: no command line holds a secret.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

from tools.errors import ToolError
from tools.localcluster.pki import write_private

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CONFIG: Final = "curl.conf"
_SECONDS: Final = 30
# Of two managers, one that does not know the key is missed by this many calls once in a million times.
_ASKED: Final = 20
_STATUS: Final = "\\n%{http_code} %{time_total}\\n"


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: 0 when there was no answer.
        text: The body.
    """

    status: int
    text: str
    seconds: float

    @property
    def json(self) -> Any:  # noqa: ANN401 - each call has its own shape
        """Return the body, parsed."""
        return json.loads(self.text)


@dataclass(frozen=True)
class Curl:
    """curl with one API key.

    Attributes:
        api: URL of the Session API.
        folder: Where curl runs and its file is.
        show: Takes the lines: the command, then the answer.
    """

    api: str
    folder: Path
    show: Callable[[str], None]

    @classmethod
    def with_key(cls, api: str, key: str, folder: Path, show: Callable[[str], None]) -> Self:
        """Write the file and return it in use."""
        lines = ("silent", "show-error", f'write-out = "{_STATUS}"', f'header = "X-API-Key: {key}"')
        write_private(folder / _CONFIG, "".join(f"{line}\n" for line in lines).encode())
        return cls(api, folder, show)

    def get(self, path: str, *options: str) -> Answer:
        """Call with GET."""
        return self._call(path, options)

    def post(self, path: str, body: object = None, *options: str) -> Answer:
        """Call with POST, and JSON if there is a body."""
        return self._call(path, ("-X", "POST", *options) if body is None else ("--json", json.dumps(body), *options))

    def delete(self, path: str, *options: str) -> Answer:
        """Call with DELETE."""
        return self._call(path, ("-X", "DELETE", *options))

    def is_known(self) -> bool:
        """Tell whether every manager takes the key: behind one address chance decides which of them answers."""
        quiet = self.quiet()
        return all(quiet.get("/sessions").status == HTTPStatus.OK for _ in range(_ASKED))

    def quiet(self) -> Curl:
        """Return one that shows nothing, for questions asked again and again."""
        return Curl(self.api, self.folder, lambda _: None)

    def _call(self, path: str, options: tuple[str, ...]) -> Answer:
        argv = ["curl", "-K", _CONFIG, *options, f"{self.api}{path}"]
        self.show(f"$ {shlex.join(argv)}")
        bounded = [*argv[:3], "--max-time", str(_SECONDS), *argv[3:]]
        try:
            done = subprocess.run(bounded, cwd=self.folder, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise ToolError("curl is not there", "install Debian's package curl") from None
        body, _, last = done.stdout.rstrip("\n").rpartition("\n")
        status, _, seconds = last.partition(" ")
        answer = Answer(int(status or 0), body, float(seconds or 0))
        for line in (body or done.stderr).splitlines():
            self.show(f"  {line}")
        self.show(f"  {answer.status} after {answer.seconds:.3f} s")
        return answer
