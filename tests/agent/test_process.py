from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.agent.process import TOKEN, Agents, outcomes_of, pairs_of, reply_of, request
from tests.support.waiting import wait_for

HEAD = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 50\r\n\r\n"
ONCE = [("m1", "user"), ("m1", "assistant")]


def run(agents: Agents, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sessionctl.agent", *arguments]
    environment = agents.environment(**changes)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSIONCTL_AGENT_KIND", "magic"),
        ("SESSIONCTL_AGENT_KIND", ""),
        ("SESSIONCTL_AGENT_PORT", "http"),
        ("SESSIONCTL_AGENT_PORT", "-1"),
        ("SESSIONCTL_AGENT_PORT", "65536"),
        ("SESSIONCTL_AGENT_PORT", "٣"),
        ("SESSIONCTL_AGENT_EDITOR_PORT", "editor"),
        ("SESSIONCTL_AGENT_HOST", "192.0.2.1"),
        ("SESSIONCTL_AGENT_HOST", "not a host"),
        ("SESSIONCTL_AGENT_TOKEN_FILE", "/nowhere"),
        ("SESSIONCTL_AGENT_TOKEN_FILE", "/dev/null"),
        ("WORKSPACE", "/nowhere"),
        ("WORKSPACE", "/dev/null"),
        ("WORKSPACE", "/proc"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(agents: Agents, name: str, value: str) -> None:
    done = run(agents, **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert name in line


def test_a_token_that_could_be_guessed_is_refused_and_not_shown(agents: Agents, tmp_path: Path) -> None:
    for text in ("", "short", "with spaces " * 4, "ü" * 40):
        (tmp_path / "token").write_text(text)
        done = run(agents)
        assert done.returncode == 2
        assert "SESSIONCTL_AGENT_TOKEN_FILE" in done.stderr
        assert text.strip() not in done.stderr or not text


def test_a_port_that_is_taken_is_told(agents: Agents) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run(agents, SESSIONCTL_AGENT_PORT=str(taken.getsockname()[1]))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "SESSIONCTL_AGENT_PORT" in done.stderr


def test_it_explains_itself(agents: Agents) -> None:
    done = run(agents, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "SESSIONCTL_AGENT_TOKEN_FILE" in done.stdout
    assert run(agents, "--port", "1").returncode == 2


def test_it_loads_nothing_that_the_command_line_or_the_manager_needs() -> None:
    code = "import sys, sessionctl.agent.serve; print([n for n in sys.argv[1:] if n in sys.modules])"
    others = [
        "typer",
        "redis",
        "kubernetes",
        "yaml",
        "jinja2",
        "sessionctl.settings",
        "httptools",
        "httpx",
        "sessionctl.wire",
        "sessionctl.agent.command",
        "sessionctl.agent.openai",
        "uvloop",
        "websockets",
    ]
    done = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_it_listens_on_all_addresses_unless_told(agents: Agents) -> None:
    agent = agents.start(host="").ready()
    listening = (
        Path(f"/proc/{agent.process.pid}/net/tcp6").read_text() + Path(f"/proc/{agent.process.pid}/net/tcp").read_text()
    )
    local = [line.split()[1] for line in listening.splitlines() if line.split()[3] == "0A"]
    assert {address.partition(":")[0].strip("0") for address in local if address.endswith(f":{agent.port:04X}")} == {""}


def test_what_cannot_be_warmed_up_serves_all_the_same(agents: Agents) -> None:
    agent = agents.staged("cold").ready()
    wait_for(lambda: "warming up failed" in agent.log.read_text(), "it was tried")
    assert reply_of(agent.say("one two")) == "onetwo"
    assert agent.terminate() == 0


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_two_agents_on_one_workspace_take_turns(agents: Agents, end: signal.Signals) -> None:
    first = agents.start().ready()
    lines = first.say("hello")
    second = agents.start()
    assert second.health() == 503
    for answer in (second.send("other", "m2"), second.ask("GET", "/v1/activity")):
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert second.ask("GET", "/v1/activity", headers={}).status == 401
    assert outcomes_of(first.say("more", "m3")) == ["done"]
    first.signal(end)
    assert first.process.wait(60) == (0 if end is signal.SIGTERM else -9)
    assert second.ready().say("hello") == lines
    assert list(pairs_of(agents.conversation)) == [*ONCE, ("m3", "user"), ("m3", "assistant")]


def test_what_waits_for_the_workspace_leaves_when_told(agents: Agents) -> None:
    first = agents.start().ready()
    second = agents.start()
    assert second.health() == 503
    assert second.terminate() == 0
    assert first.health() == 200


def test_idle_it_ends_at_once_whatever_clients_do(agents: Agents) -> None:
    agent = agents.start().ready()
    with (
        socket.create_connection(("127.0.0.1", agent.port)) as silent,
        socket.create_connection(("127.0.0.1", agent.port)) as halfway,
    ):
        halfway.sendall(HEAD.encode() + b'{"id":')
        wait_for(lambda: agent.health() == 200, "the halves of the request arrived")
        assert agent.terminate() == 0
        assert silent.recv(1) == b""
    assert "Traceback" not in agent.log.read_text()


def test_a_client_that_does_not_read_does_not_keep_it_from_ending(agents: Agents) -> None:
    agent = agents.staged("flood").ready()
    slow = agent.send("x")
    assert slow.line()
    wait_for(lambda: not agent.activity()["message_running"], "the message ended")
    assert agent.terminate() == 0
    assert outcomes_of(agents.staged("flood").ready().say("x")) == ["done"]
    assert agents.runs == 1


def test_at_sigterm_a_message_is_finished_and_no_other_taken(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    agent.signal(signal.SIGTERM)
    wait_for(lambda: agent.health() == 503, "it is not ready any more")
    for answer in (agent.send("other", "m2"), agent.send("one two")):
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert agent.activity()["message_running"]
    agents.open_gate(1)
    lines = running.lines()
    assert (reply_of(lines), outcomes_of(lines)) == ("two", ["done"])
    assert agent.process.wait(60) == 0
    assert list(pairs_of(agents.conversation)) == ONCE


def test_a_message_that_nobody_listens_to_is_finished_too(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    leaving = agent.send("one two")
    assert leaving.line()
    leaving.connection.close()
    leaving.response.close()
    agent.signal(signal.SIGTERM)
    # Longer than it waits for clients.
    with pytest.raises(subprocess.TimeoutExpired):
        agent.process.wait(1.5)
    agents.open_gate(1)
    assert agent.process.wait(60) == 0
    assert list(pairs_of(agents.conversation)) == ONCE


def test_a_message_whose_body_ends_after_sigterm_is_not_begun(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    body = json.dumps(request("one two")).encode()
    with socket.create_connection(("127.0.0.1", agent.port)) as late:
        late.sendall(HEAD.replace("50", str(len(body))).encode() + body[:-1])
        assert agent.activity()["message_running"], "a later request was answered, so the head of this one is read"
        agent.signal(signal.SIGTERM)
        wait_for(lambda: agent.health() == 503, "it is not ready any more")
        late.sendall(body[-1:])
        assert late.recv(20).startswith(b"HTTP/1.1 503")
    agents.open_gate(1)
    assert outcomes_of(running.lines()) == ["done"]
    assert agent.process.wait(60) == 0


@pytest.mark.parametrize(("kind", "outcomes"), [("gated", []), ("gated-command", ["interrupted"])])
def test_a_message_that_does_not_end_in_time_is_cut_off(agents: Agents, kind: str, outcomes: list[str]) -> None:
    agent = agents.staged(kind, "patience=0.2").ready()
    running = agent.send("one two")
    assert running.line()
    assert agent.terminate() == 0
    assert outcomes_of(running.lines()) == outcomes
    agents.open_gate(1)
    lines = agents.staged(kind).ready().say("one two")
    assert outcomes_of(lines) == outcomes or ["done"]
    assert (len(outcomes_of(lines)), list(pairs_of(agents.conversation))) == (1, ONCE)
    assert "Traceback" not in agent.log.read_text()


def test_a_second_signal_changes_nothing(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
        agent.signal(number)
        wait_for(lambda: agent.health() == 503, "it got the signal")
    agents.open_gate(1)
    assert outcomes_of(running.lines()) == ["done"]
    assert agent.process.wait(60) == 0


def test_logs_carry_ids_and_no_texts(agents: Agents) -> None:
    agent = agents.staged("broken").ready()
    agent.say("confidential words")
    with socket.create_connection(("127.0.0.1", agent.port)) as client:
        client.sendall(b"no request\r\n\r\n")
        assert client.recv(20).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", agent.port)) as client:
        client.sendall(HEAD.encode() + b'{"message": "confidential')
    agent.terminate()
    text = agent.log.read_text()
    assert "confidential" not in text
    assert TOKEN not in text
    assert text.count("Traceback") == 1, "that of the reply that broke"
    for line in text.splitlines():
        json.loads(line)
