from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from sessionctl.agent.settings import load_settings
from sessionctl.errors import ConfigurationError
from tests.agent.process import Agents

COMMAND = {"SESSIONCTL_AGENT_KIND": "command", "SESSIONCTL_AGENT_COMMAND": '["my-ai", ""]'}
OPENAI = {
    "SESSIONCTL_AGENT_KIND": "openai",
    "SESSIONCTL_AGENT_OPENAI_BASE_URL": "https://user:secret@llm.example.com:8443/v1/",
    "SESSIONCTL_AGENT_OPENAI_MODEL": "coder",
}


def test_a_command_is_never_run_twice_unless_told(agents: Agents) -> None:
    found = load_settings(agents.environment(**COMMAND)).command
    assert found is not None
    assert (found.command, found.on_interrupt) == (("my-ai", ""), "interrupt")


def test_an_endpoint_is_read_and_its_password_not_shown(agents: Agents) -> None:
    settings = load_settings(agents.environment(**OPENAI))
    assert settings.openai is not None
    assert settings.openai.base_url == "https://user:secret@llm.example.com:8443/v1"
    assert (settings.openai.key_file, settings.openai.timeout) == (None, timedelta(minutes=5))
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("given", "name", "value"),
    [
        *((COMMAND, "SESSIONCTL_AGENT_COMMAND", value) for value in ("", "my-ai", '"my-ai"', "[]", "[7]", '[""]')),
        (COMMAND, "SESSIONCTL_AGENT_COMMAND", '["a\\u0000b"]'),
        (COMMAND, "SESSIONCTL_AGENT_COMMAND", "[" * 100_000),
        (COMMAND, "SESSIONCTL_AGENT_ON_INTERRUPT", "always"),
        *(
            (OPENAI, "SESSIONCTL_AGENT_OPENAI_BASE_URL", value)
            for value in ("", "llm", "ftp://secret", "https://", "https://secret:x", "https://a/?secret", "https://a b")
        ),
        (OPENAI, "SESSIONCTL_AGENT_OPENAI_MODEL", ""),
        (OPENAI, "SESSIONCTL_AGENT_OPENAI_KEY_FILE", "/nowhere"),
        (OPENAI, "SESSIONCTL_AGENT_OPENAI_KEY_FILE", "/dev/null"),
        (OPENAI, "SESSIONCTL_AGENT_OPENAI_TIMEOUT", "0"),
        (OPENAI, "SESSIONCTL_AGENT_OPENAI_CONTEXT_CHARACTERS", "-1"),
    ],
)
def test_a_wrong_setting_is_named(agents: Agents, given: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as raised:
        load_settings(agents.environment(**{**given, name: value}))
    assert "secret" not in raised.value.message


@pytest.mark.parametrize("text", ["", "two words", "ü" * 40, "secret\nsecret"])
def test_a_key_that_is_none_is_not_shown(agents: Agents, tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"^SESSIONCTL_AGENT_OPENAI_KEY_FILE: ") as raised:
        load_settings(agents.environment(**OPENAI, SESSIONCTL_AGENT_OPENAI_KEY_FILE=str(file)))
    assert not text or text not in raised.value.message
