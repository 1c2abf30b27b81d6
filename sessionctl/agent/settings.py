"""The agent's configuration: environment variables and one mounted file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sessionctl.agent.kinds import KINDS
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP: Final = f"""usage: sessionctl-agent
       sessionctl-agent hold -- COMMAND [ARGUMENT...]

Serves one workspace over HTTP until SIGTERM, or keeps it awake while a command runs. Settings are environment
variables:

  SESSIONCTL_AGENT_TOKEN_FILE  file with the token that callers show (/run/secrets/sessionctl/token)
  SESSIONCTL_AGENT_KIND        what answers messages: {", ".join(KINDS)} (echo)
  SESSIONCTL_AGENT_HOST        address to listen on (all)
  SESSIONCTL_AGENT_PORT        port to listen on, 0 for any that is free (8081)
  SESSIONCTL_AGENT_EDITOR_PORT port of the editor, whose connections are looked at (8080)
  WORKSPACE                    the user's files; the agent keeps its own in .sessionctl there (/workspace)"""

MAX_PORT: Final = 65535
_TOKEN: Final = re.compile(r"[!-~]{32,256}")


@dataclass(frozen=True)
class AgentSettings:
    """What the agent was told at its start; ``host`` is empty for all addresses."""

    workspace: Path
    token: str = field(repr=False)
    kind: str = "echo"
    host: str = ""
    port: int = 8081
    editor_port: int = 8080

    @property
    def state(self) -> Path:
        """The folder of the agent's own files."""
        return self.workspace / ".sessionctl"


def load_settings(environment: Mapping[str, str]) -> AgentSettings:
    """Read the settings; raises ConfigurationError that names the variable."""
    workspace = Path(environment.get("WORKSPACE", "/workspace"))
    if not workspace.is_dir():
        raise ConfigurationError(f"WORKSPACE: {workspace} is not a folder")
    kind = environment.get("SESSIONCTL_AGENT_KIND", "echo")
    if kind not in KINDS:
        raise ConfigurationError(f"SESSIONCTL_AGENT_KIND: {kind!r} is not one of {', '.join(KINDS)}")
    return AgentSettings(
        workspace=workspace,
        token=_token(Path(environment.get("SESSIONCTL_AGENT_TOKEN_FILE", "/run/secrets/sessionctl/token"))),
        kind=kind,
        host=environment.get("SESSIONCTL_AGENT_HOST", ""),
        port=_port(environment, "SESSIONCTL_AGENT_PORT", "8081"),
        editor_port=_port(environment, "SESSIONCTL_AGENT_EDITOR_PORT", "8080"),
    )


def _token(file: Path) -> str:
    name = "SESSIONCTL_AGENT_TOKEN_FILE"
    try:
        token = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"{name}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        token = ""
    if not _TOKEN.fullmatch(token):
        raise ConfigurationError(f"{name}: {file} does not hold 32 to 256 visible ASCII characters")
    return token


def _port(environment: Mapping[str, str], name: str, default: str) -> int:
    text = environment.get(name, default)
    # ASCII digits only: int() takes signs, blanks and other scripts' digits too.
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise ConfigurationError(f"{name}: {text!r} is not a port")
    return int(text)
