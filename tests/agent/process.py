"""An agent as a process of its own on loopback, and what its clients do."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.spawn import AGENT, Forked, zygote
from tests.support.waiting import wait_for

TOKEN = "0123456789abcdef" * 4
Json = dict[str, Any]


@dataclass
class Answer:
    """An answer as it comes."""

    response: http.client.HTTPResponse
    connection: http.client.HTTPConnection

    @property
    def status(self) -> int:
        return self.response.status

    def line(self) -> Json | None:
        """Read one line; None at the end."""
        line = self.response.readline()
        return json.loads(line) if line else None

    def lines(self) -> list[Json]:
        """Read all that is left."""
        try:
            return [json.loads(line) for line in self.response]
        finally:
            self.connection.close()

    def json(self) -> Json:
        try:
            found: Json = json.loads(self.response.read())
            return found
        finally:
            self.connection.close()


@dataclass
class AgentProcess:
    """One started agent; ``module`` may be the staged one."""

    workspace: Path
    process: Forked
    log: Path
    answers: list[Answer] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port it said it listens on."""

        def said() -> int:
            assert self.process.poll() is None, self.log.read_text()
            found = [json.loads(line)["message"] for line in self.log.read_text().splitlines() if line.startswith("{")]
            return next((int(text.rsplit(" ", 1)[1]) for text in found if text.startswith("listening")), 0)

        return wait_for(said, "the agent listens")

    def ask(
        self,
        method: str,
        target: str,
        body: bytes | Json | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request and read the head of its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Authorization": f"Bearer {TOKEN}"} if headers is None else headers
        connection.request(method, target, json.dumps(body) if isinstance(body, dict) else body, given)
        answer = Answer(connection.getresponse(), connection)
        self.answers.append(answer)
        return answer

    def send(self, text: str, message_id: str = "m1", query: str = "") -> Answer:
        """Send a message."""
        return self.ask("POST", f"/v1/messages{query}", request(text, message_id))

    def say(self, text: str, message_id: str = "m1", query: str = "") -> list[Json]:
        """Send a message and return all lines of its answer."""
        answer = self.send(text, message_id, query)
        assert answer.status == 200, answer.json()
        return answer.lines()

    def health(self) -> int:
        return self.ask("GET", "/healthz", headers={}).status

    def activity(self) -> Json:
        return self.ask("GET", "/v1/activity").json()

    def ready(self) -> AgentProcess:
        wait_for(lambda: self.health() == 200, "the agent is ready")
        return self

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def terminate(self) -> int:
        """Ask it to end as the kubelet does and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(60)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        for answer in self.answers:
            answer.connection.close()
            answer.response.close()


class Agents:
    """Starts agents on one workspace."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.gates = folder / "gates"
        self.gates.mkdir()
        self._token = folder / "token"
        self._token.write_text(TOKEN + "\n")
        self._folder = folder
        self._started: list[AgentProcess] = []

    def environment(self, **changes: str) -> dict[str, str]:
        """What a container would be given."""
        return {
            **os.environ,
            "WORKSPACE": str(self.workspace),
            "SESSIONCTL_AGENT_TOKEN_FILE": str(self._token),
            "SESSIONCTL_AGENT_HOST": "127.0.0.1",
            "SESSIONCTL_AGENT_PORT": "0",
            **changes,
        }

    def start(
        self, *arguments: str, module: str = "sessionctl.agent", host: str = "127.0.0.1", **changes: str
    ) -> AgentProcess:
        """Start one that may have to wait for the lock."""
        log = self._folder / f"log-{len(self._started)}"
        with log.open("wb") as output:
            process = zygote(AGENT).start(
                module,
                [module, *arguments],
                self.environment(SESSIONCTL_AGENT_HOST=host, **changes),
                stdout=output.fileno(),
                stderr=output.fileno(),
            )
        started = AgentProcess(self.workspace, process, log)
        self._started.append(started)
        return started

    def staged(self, kind: str, *options: str) -> AgentProcess:
        """Start one whose replies or whose death are staged, see staged_agent.py."""
        return self.start(kind, str(self.gates), *options, module="tests.agent.staged_agent")

    def command(self, *command: str, on_interrupt: str = "interrupt", options: tuple[str, ...] = ()) -> AgentProcess:
        """Start one whose replies are those of a program, perhaps with options of the staged one."""
        return self.start(
            *("configured", str(self.gates), *options),
            module="tests.agent.staged_agent",
            SESSIONCTL_AGENT_KIND="command",
            SESSIONCTL_AGENT_COMMAND=json.dumps(command),
            SESSIONCTL_AGENT_ON_INTERRUPT=on_interrupt,
        )

    def open_gate(self, number: int) -> None:
        """Let a gated reply go on to its next piece."""
        (self.gates / str(number)).touch()

    @property
    def runs(self) -> int:
        """How often a staged reply was begun."""
        file = self.gates / "runs"
        return len(file.read_text()) if file.exists() else 0

    @property
    def conversation_bytes(self) -> bytes:
        """The conversation as it is."""
        return (self.workspace / ".sessionctl" / "conversation.jsonl").read_bytes()

    @property
    def conversation(self) -> list[Json]:
        """Every line of the conversation, each of which has to be whole."""
        data = self.conversation_bytes
        assert not data or data.endswith(b"\n")
        return [json.loads(line) for line in data.splitlines()]

    def close(self) -> None:
        for started in self._started:
            started.close()


def request(text: str, message_id: str = "m1") -> Json:
    return {"id": message_id, "message": text, "user_id": "alice"}


def reply_of(lines: list[Json]) -> str:
    return "".join(line.get("delta", "") for line in lines)


def outcomes_of(lines: list[Json]) -> list[str]:
    return [line["outcome"] for line in lines if "outcome" in line]


def pairs_of(conversation: list[Json]) -> Iterator[tuple[str, str]]:
    for entry in conversation:
        yield entry["id"], entry["role"]
