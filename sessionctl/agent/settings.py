"""The agent's configuration: environment variables and one mounted file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

from sessionctl.agent.kinds import KindName
from sessionctl.agent.policy import AfterCut
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

HELP: Final = f"""usage: sessionctl-agent
       sessionctl-agent hold -- COMMAND [ARGUMENT...]

Serves one workspace over HTTP until SIGTERM, or keeps it awake while a command runs. Settings are environment
variables:

  SESSIONCTL_AGENT_TOKEN_FILE  file with the token that callers show (/run/secrets/sessionctl/token)
  SESSIONCTL_AGENT_KIND        what answers messages: {", ".join(KindName)} (echo)
  SESSIONCTL_AGENT_HOST        address to listen on (all)
  SESSIONCTL_AGENT_PORT        port to listen on, 0 for any that is free (8081)
  SESSIONCTL_AGENT_EDITOR_PORT port of the editor, whose connections are looked at (8080)
  SESSIONCTL_AGENT_EDITOR_CONTROL_PORT
                               port on loopback where the editor is told to end its connections (8082)
  WORKSPACE                    the user's files; the agent keeps its own in .sessionctl there (/workspace)

of kind command:

  SESSIONCTL_AGENT_COMMAND       the program and its arguments, a list of strings in JSON; it gets the message on stdin
  SESSIONCTL_AGENT_ON_INTERRUPT  what becomes of a message that was cut off midway: {", ".join(AfterCut)} (interrupt)

of kind openai:

  SESSIONCTL_AGENT_OPENAI_BASE_URL            where the API is, for example https://llm.example.com/v1
  SESSIONCTL_AGENT_OPENAI_MODEL               the model to ask for
  SESSIONCTL_AGENT_OPENAI_KEY_FILE            file with the key; read for each message (none: no key is shown)
  SESSIONCTL_AGENT_OPENAI_SYSTEM_PROMPT       what the model is told before the conversation
  SESSIONCTL_AGENT_OPENAI_CONTEXT_CHARACTERS  how much of the earlier conversation it is told (100000)
  SESSIONCTL_AGENT_OPENAI_TIMEOUT             seconds it may be silent (300)"""

MAX_PORT: Final = 65535
_TOKEN: Final = re.compile(r"[!-~]{32,256}")
_KEY: Final = re.compile(r"[!-~]{1,4096}")
_OURS: Final = ("SESSIONCTL_", "PYDANTIC_DISABLE_PLUGINS")
_SHARED: Final = "SESSIONCTL_AGENT_PORT"
"""``sessionctl-agent hold`` and the editor's extension look for the agent there."""
Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True)
class CommandSettings:
    """What the kind ``command`` runs."""

    command: tuple[str, ...]
    on_interrupt: AfterCut = AfterCut.INTERRUPT


@dataclass(frozen=True)
class OpenAISettings:
    """Whom the kind ``openai`` asks."""

    base_url: str = field(repr=False)
    model: str
    key_file: Path | None = None
    system_prompt: str = ""
    context_characters: int = 100_000
    timeout: timedelta = timedelta(seconds=300)


@dataclass(frozen=True)
class AgentSettings:
    """What the agent was told at its start; ``host`` is empty for all addresses."""

    workspace: Path
    token: str = field(repr=False)
    kind: KindName = KindName.ECHO
    host: str = ""
    port: int = 8081
    editor_port: int = 8080
    editor_control_port: int = 8082
    command: CommandSettings | None = None
    openai: OpenAISettings | None = None

    @property
    def state(self) -> Path:
        """The folder of the agent's own files."""
        return self.workspace / ".sessionctl"


def load_settings(environment: Mapping[str, str]) -> AgentSettings:
    """Read the settings; raises ConfigurationError that names the variable."""
    workspace = read_workspace(environment)
    kind = _choice(environment, "SESSIONCTL_AGENT_KIND", KindName, KindName.ECHO)
    return AgentSettings(
        workspace=workspace,
        token=_token(Path(environment.get("SESSIONCTL_AGENT_TOKEN_FILE", "/run/secrets/sessionctl/token"))),
        kind=kind,
        host=environment.get("SESSIONCTL_AGENT_HOST", ""),
        port=read_port(environment, "SESSIONCTL_AGENT_PORT", "8081"),
        editor_port=read_port(environment, "SESSIONCTL_AGENT_EDITOR_PORT", "8080"),
        editor_control_port=read_port(environment, "SESSIONCTL_AGENT_EDITOR_CONTROL_PORT", "8082"),
        command=_command(environment) if kind is KindName.COMMAND else None,
        openai=_openai(environment) if kind is KindName.OPENAI else None,
    )


def read_workspace(environment: Mapping[str, str]) -> Path:
    """Return the user's folder; raises ConfigurationError."""
    workspace = Path(environment.get("WORKSPACE", "/workspace"))
    if not workspace.is_dir():
        raise ConfigurationError(f"WORKSPACE: {workspace} is not a folder")
    return workspace


def read_port(environment: Mapping[str, str], name: str, default: str) -> int:
    """Return a port; raises ConfigurationError."""
    text = environment.get(name, default)
    # ASCII digits only: int() takes signs, blanks and other scripts' digits too.
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > MAX_PORT:
        raise ConfigurationError(f"{name}: {text!r} is not a port")
    return int(text)


def public(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the user's programs see of our environment."""
    return {name: text for name, text in environment.items() if name == _SHARED or not name.startswith(_OURS)}


def read_key(file: Path) -> str:
    """Read the key of an endpoint; raises ConfigurationError that does not show it."""
    return _secret("SESSIONCTL_AGENT_OPENAI_KEY_FILE", file, _KEY, "a key of visible ASCII characters")


def _command(environment: Mapping[str, str]) -> CommandSettings:
    name = "SESSIONCTL_AGENT_COMMAND"
    try:
        command = json.loads(environment.get(name, ""))
    except (ValueError, RecursionError):
        command = None
    whole = isinstance(command, list) and all(isinstance(word, str) and "\0" not in word for word in command)
    if not whole or not command or not command[0]:
        raise ConfigurationError(f'{name}: it is not a list of strings in JSON, for example ["my-ai", "--reply"]')
    on_interrupt = _choice(environment, "SESSIONCTL_AGENT_ON_INTERRUPT", AfterCut, AfterCut.INTERRUPT)
    return CommandSettings(tuple(command), on_interrupt)


def _openai(environment: Mapping[str, str]) -> OpenAISettings:
    prefix = "SESSIONCTL_AGENT_OPENAI_"
    base_url = environment.get(f"{prefix}BASE_URL", "")
    if not _is_url(base_url):
        # It may hold a password, so it is not shown.
        raise ConfigurationError(f"{prefix}BASE_URL: it is not an http or https address without query")
    if not (model := environment.get(f"{prefix}MODEL", "")):
        raise ConfigurationError(f"{prefix}MODEL: it is empty")
    key_file = Path(found) if (found := environment.get(f"{prefix}KEY_FILE", "")) else None
    if key_file is not None:
        read_key(key_file)
    return OpenAISettings(
        base_url=base_url.rstrip("/"),
        model=model,
        key_file=key_file,
        system_prompt=environment.get(f"{prefix}SYSTEM_PROMPT", ""),
        context_characters=_number(environment, f"{prefix}CONTEXT_CHARACTERS", 100_000, least=0),
        timeout=timedelta(seconds=_number(environment, f"{prefix}TIMEOUT", 300, least=1)),
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises where it is none
    except ValueError:
        return False
    whole = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return whole and not parts.query and not parts.fragment and text.isprintable() and " " not in text


def _choice(environment: Mapping[str, str], name: str, choices: type[Choice], default: Choice) -> Choice:
    text = environment.get(name, default)
    try:
        return choices(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {text!r} is not one of {', '.join(choices)}") from error


def _number(environment: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = environment.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise ConfigurationError(f"{name}: {text!r} is not a whole number of at least {least}")
    return int(text)


def _secret(name: str, file: Path, pattern: re.Pattern[str], what: str) -> str:
    try:
        secret = file.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(f"{name}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        secret = ""
    if not pattern.fullmatch(secret):
        raise ConfigurationError(f"{name}: {file} does not hold {what}")
    return secret


def _token(file: Path) -> str:
    return _secret("SESSIONCTL_AGENT_TOKEN_FILE", file, _TOKEN, "32 to 256 visible ASCII characters")
