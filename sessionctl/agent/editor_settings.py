"""The configuration of the editor's container: environment variables."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sessionctl.agent.settings import public, read_port, read_workspace

if TYPE_CHECKING:
    from collections.abc import Mapping

HOME: Final = Path("/opt/editor")
"""Where the image has code-server and its Node.js."""
HELP: Final = f"""usage: sessionctl-editor

Serves VS Code in the browser until SIGTERM. Settings are environment variables:

  SESSIONCTL_EDITOR_HOST          address to listen on (all)
  SESSIONCTL_EDITOR_PORT          port to listen on, once the editor answers (8080)
  SESSIONCTL_EDITOR_CONTROL_PORT  port on loopback, where POST /close ends all connections (8082)
  SESSIONCTL_EDITOR_HOME          where code-server is ({HOME})
  WORKSPACE                       the folder that is opened; settings and extensions are in .local/share/code-server
                                  there (/workspace)"""


@dataclass(frozen=True)
class EditorSettings:
    """What the editor was told at its start.

    Attributes:
        home: Where code-server and its Node.js are.
        runtime: A folder for its sockets.
        host: Empty for all addresses.
        environment: What terminals and extensions see.
    """

    workspace: Path
    home: Path
    runtime: Path
    host: str
    port: int
    control_port: int
    environment: Mapping[str, str] = field(repr=False)

    @property
    def socket(self) -> Path:
        """Where code-server listens."""
        return self.runtime / "http"

    @property
    def config(self) -> Path:
        """The file that code-server reads its own settings from."""
        return self.runtime / "config.yaml"

    @property
    def data(self) -> Path:
        """Where the user's settings and extensions are; on the volume, so that they outlive the pod."""
        return self.workspace / ".local" / "share" / "code-server"

    def command(self) -> list[str]:
        """Return the program and its arguments.

        It asks nobody for a password: who gets this far has shown a cookie to the router, and the NetworkPolicy lets
        nobody in past that. It calls nobody by itself either.
        """
        return [
            str(self.home / "bin" / "node"),
            str(self.home / "node_modules" / "code-server" / "out" / "node" / "entry.js"),
            f"--socket={self.socket}",
            "--socket-mode=600",
            f"--session-socket={self.runtime / 'session'}",
            f"--config={self.config}",
            "--auth=none",
            f"--user-data-dir={self.data}",
            f"--extensions-dir={self.data / 'extensions'}",
            "--disable-telemetry",
            "--disable-update-check",
            "--disable-workspace-trust",
            "--disable-getting-started-override",
            "--log=warn",
            str(self.workspace),
        ]


def load_editor_settings(environment: Mapping[str, str]) -> EditorSettings:
    """Read the settings; raises ConfigurationError that names the variable."""
    return EditorSettings(
        workspace=read_workspace(environment),
        home=Path(environment.get("SESSIONCTL_EDITOR_HOME", HOME)),
        runtime=Path(tempfile.gettempdir()) / ".sessionctl-editor",
        host=environment.get("SESSIONCTL_EDITOR_HOST", ""),
        port=read_port(environment, "SESSIONCTL_EDITOR_PORT", "8080"),
        control_port=read_port(environment, "SESSIONCTL_EDITOR_CONTROL_PORT", "8082"),
        environment=public(environment),
    )
