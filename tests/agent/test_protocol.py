from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from sessionctl.agent.server import MAX_BODY_BYTES
from sessionctl.wire import MAX_LINE_BYTES, MessageDelta, MessageEnd
from tests.agent.process import TOKEN, AgentProcess, Agents, Json, outcomes_of, pairs_of, reply_of, request
from tests.support.waiting import wait_for

ONCE = [("m1", "user"), ("m1", "assistant")]


def test_a_message_is_answered_and_remembered(agents: Agents, agent: AgentProcess) -> None:
    answer = agent.send("hé\u2028llo\n")
    assert (answer.status, answer.response.headers["Content-Type"]) == (200, "application/x-ndjson")
    assert answer.lines() == [
        {"seq": 1, "attempt": 1, "delta": "hé\u2028llo\n"},
        {"seq": 2, "attempt": 1, "outcome": "done"},
    ]
    asked, replied = agents.conversation
    assert (asked["id"], asked["role"], asked["user_id"], asked["text"]) == ("m1", "user", "alice", "hé\u2028llo\n")
    assert (replied["id"], replied["role"], replied["text"]) == ("m1", "assistant", "hé\u2028llo\n")
    assert replied["outcome"] == "done"


def test_messages_follow_one_another_on_one_connection(agents: Agents, agent: AgentProcess) -> None:
    health = agent.ask("GET", "/healthz")
    assert health.response.read() == b"ok\n"
    connection = health.connection
    for number in range(20):
        body = json.dumps(request("x", f"m{number}"))
        connection.request("POST", "/v1/messages", body, {"Authorization": f"Bearer {TOKEN}"})
        assert outcomes_of([json.loads(line) for line in connection.getresponse()]) == ["done"]
    roles = [role for _, role in pairs_of(agents.conversation)]
    assert roles == ["user", "assistant"] * 20


def test_health_needs_no_token_and_the_rest_does(agent: AgentProcess) -> None:
    assert agent.health() == 200
    for given in (
        {},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}0"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \xff"},
    ):
        for method, target in (("GET", "/v1/activity"), ("POST", "/v1/messages")):
            answer = agent.ask(method, target, b"not even read", headers=given)
            assert (answer.status, answer.response.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert answer.json()["code"] == "unauthenticated"
    assert agent.ask("GET", "/v1/activity", headers={"Authorization": f"bearer {TOKEN}"}).status == 200


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": ""}, "id"),
        ({"id": "../x"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": "x\n"}, "id"),
        ({"id": 7}, "id"),
        ({"message": ""}, "message"),
        ({"message": None}, "message"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"color": "red"}, "color"),
    ],
)
def test_a_wrong_field_is_named(agent: AgentProcess, change: Json, field: str) -> None:
    answer = agent.ask("POST", "/v1/messages", request("hello") | change)
    assert (answer.status, answer.response.headers["Content-Type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert (problem["status"], problem["code"], [e["field"] for e in problem["errors"]]) == (
        422,
        "invalid_request",
        [field],
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"id": "m1", "message": "\\ud800", "user_id": "u"}', b"[" * 100_000],
)
def test_what_is_no_message_is_refused(agents: Agents, agent: AgentProcess, body: bytes) -> None:
    answer = agent.ask("POST", "/v1/messages", body)
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert agents.conversation == []


@pytest.mark.parametrize("query", ["?from_seq=0", "?from_seq=x", "?attempt=0", "?seq=1"])
def test_a_wrong_query_is_named(agent: AgentProcess, query: str) -> None:
    answer = agent.send("hello", query=query)
    assert answer.status == 422
    assert answer.json()["errors"][0]["field"] == query[1:].partition("=")[0]


def test_a_body_that_is_too_large_is_refused(agents: Agents, agent: AgentProcess) -> None:
    frame = len(json.dumps(request("", "fits")))
    assert reply_of(agent.say("x" * (MAX_BODY_BYTES - frame), "fits")).count("x") > 1_000_000
    answer = agent.send("x" * (MAX_BODY_BYTES - frame + 1), "more")
    assert (answer.status, answer.json()["code"]) == (413, "too_large")
    assert agent.send("x" * (4 * MAX_BODY_BYTES), "far-larger").status == 413
    assert {message_id for message_id, _ in pairs_of(agents.conversation)} == {"fits"}


def test_other_paths_and_methods_are_problems_too(agent: AgentProcess) -> None:
    for method, target, status, code in (
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/messages", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ):
        answer = agent.ask(method, target)
        assert (answer.status, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize("character", ["x", "é", "\U0001f600", "\x01", '"', "\\", "\u2028"])
def test_no_line_is_longer_than_promised(agent: AgentProcess, character: str) -> None:
    text = character * 40_000
    answer = agent.send(text)
    *raw, last = list(answer.response)
    for line in raw:
        MessageDelta.model_validate_json(line)
    assert MessageEnd.model_validate_json(last).outcome == "done"
    assert max(map(len, raw)) <= MAX_LINE_BYTES
    lines = [json.loads(line) for line in [*raw, last]]
    assert reply_of(lines) == text
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))


def test_the_same_id_again_repeats_the_answer(agents: Agents) -> None:
    agent = agents.staged("words").ready()
    first = agent.say("one two three")
    assert len(first) == 4
    assert agent.say("one two three") == first
    spaced = json.dumps(request("one two three"), indent=4).encode()
    assert agent.ask("POST", "/v1/messages", spaced).lines() == first
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_an_answer_is_taken_up_where_it_was_left(agents: Agents) -> None:
    agent = agents.staged("words").ready()
    first = agent.say("one two three")
    for seen in range(len(first)):
        assert agent.say("one two three", query=f"?from_seq={seen + 1}&attempt=1") == first[seen:]
    # Who asks beyond the end is told it once more: a node may have lost lines that somebody has seen.
    beyond = agent.say("one two three", query=f"?from_seq={len(first) + 1}&attempt=1")
    assert beyond == [first[-1] | {"seq": len(first) + 1}]
    assert agent.say("one two three", query="?from_seq=3&attempt=2") == first
    assert agents.runs == 1


def test_an_id_belongs_to_one_message(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    for _ in ("while it runs", "when it has ended"):
        for other in (request("other"), request("one two") | {"user_id": "bob"}):
            answer = agent.ask("POST", "/v1/messages", other)
            assert (answer.status, answer.json()["code"]) == (409, "conflict")
        agents.open_gate(1)
        running.lines()
    assert list(pairs_of(agents.conversation)) == ONCE


def test_another_message_is_refused_while_one_runs(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    answer = agent.send("other", "m2")
    assert (answer.status, answer.json()["code"], answer.response.headers["Retry-After"]) == (503, "unavailable", "1")
    agents.open_gate(1)
    assert outcomes_of(running.lines()) == ["done"]
    # No pause between the last line of one and the start of the next.
    assert outcomes_of(agent.say("other", "m2")) == ["done"]


def test_activity_says_whether_a_message_runs(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    idle = {"message_running": False, "hold": None, "editor_input": None, "editor_connected": None}
    assert agent.activity() == idle
    running = agent.send("one two")
    assert agent.activity() == idle | {"message_running": True}
    agents.open_gate(1)
    running.lines()
    wait_for(lambda: agent.activity() == idle, "it is idle again")


def test_everybody_who_asks_gets_the_same_lines(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: agent.send("one two three"), range(8)))
        late = agent.send("one two three", query="?from_seq=2&attempt=1")
        agents.open_gate(1)
        agents.open_gate(2)
        first, *others = pool.map(lambda answer: answer.lines(), answers)
    assert len(first) == 4
    assert all(lines == first for lines in others)
    assert late.lines() == first[1:]
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_a_client_that_leaves_does_not_stop_the_message(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    leaving = agent.send("one two")
    assert leaving.line()
    leaving.connection.close()
    leaving.response.close()
    agents.open_gate(1)
    wait_for(lambda: not agent.activity()["message_running"], "the message ended")
    assert outcomes_of(agent.say("one two")) == ["done"]
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_a_client_that_does_not_read_holds_up_nobody(agents: Agents) -> None:
    agent = agents.staged("flood").ready()
    body = json.dumps(request("x")).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", agent.port)) as slow:
        slow.sendall(head.encode() + body)
        assert slow.recv(1) == b"H"
        assert len(reply_of(agent.say("x"))) == 96 * 64 * 1024
        assert outcomes_of(agent.say("x", "m2")) == ["done"]
    assert agents.runs == 2


def test_a_reply_that_breaks_is_a_failed_message(agents: Agents) -> None:
    agent = agents.staged("broken").ready()
    lines = agent.say("one two")
    assert (reply_of(lines), outcomes_of(lines)) == ("one", ["failed"])
    assert "on purpose" not in lines[-1]["reason"]
    assert agent.say("one two") == lines
    assert [(entry["role"], entry["text"]) for entry in agents.conversation] == [
        ("user", "one two"),
        ("assistant", "one"),
    ]
    assert "on purpose" in agent.log.read_text()
