from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionctl.agent import pages
from sessionctl.agent.files import BLOCK, spans_from_the_end
from sessionctl.agent.pages import read_turns, take_page
from sessionctl.wire import AgentConversation
from tests.agent.process import AgentProcess, Agents, Json
from tests.support.waiting import wait_for


def page(agent: AgentProcess, query: str = "") -> Json:
    answer = agent.ask("GET", f"/v1/conversation{query}")
    assert answer.status == 200
    found = answer.json()
    AgentConversation.model_validate(found)
    return found


def ids(found: Json) -> list[str]:
    return [entry["id"] for entry in found["messages"]]


def test_it_is_paged_from_its_end(agents: Agents, agent: AgentProcess) -> None:
    assert page(agent) == {"messages": [], "more": False}
    for number in range(5):
        agent.say(f"text {number}", f"m{number}")
    everything = page(agent)
    assert (ids(everything), everything["more"]) == (["m0", "m1", "m2", "m3", "m4"], False)
    assert everything["messages"][0] | {"at": ""} == {
        "id": "m0",
        "message": "text 0",
        "reply": "text 0",
        "outcome": "done",
        "reason": None,
        "at": "",
        "cut": False,
    }
    newest = page(agent, "?limit=2")
    assert (ids(newest), newest["more"]) == (["m3", "m4"], True)
    older = page(agent, "?limit=2&before=m3")
    assert (ids(older), older["more"]) == (["m1", "m2"], True)
    oldest = page(agent, "?limit=2&before=m1")
    assert (ids(oldest), oldest["more"]) == (["m0"], False)
    assert page(agent, "?before=m0") == {"messages": [], "more": False}


def test_the_message_that_runs_is_in_it(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    agent.say("one", "m0")
    running = agent.send("one two")
    assert running.line()
    found = page(agent)
    assert ids(found) == ["m0", "m1"]
    last = found["messages"][-1]
    assert (last["message"], last["reply"], last["outcome"]) == ("one two", "one", None)
    assert (ids(page(agent, "?limit=1")), page(agent, "?limit=1")["more"]) == (["m1"], True)
    assert ids(page(agent, "?before=m1")) == ["m0"]
    agents.open_gate(1)
    running.lines()
    wait_for(lambda: not agent.activity()["message_running"], "it was put away")
    found = page(agent)
    assert (ids(found), found["messages"][-1]["reply"]) == (["m0", "m1"], "onetwo")


def test_a_message_whose_pair_is_written_is_in_it_once(agents: Agents) -> None:
    agent = agents.staged("words", "hold=conversation.jsonl:1").ready()
    assert agent.say("one two")
    wait_for(lambda: (agents.gates / "trace").read_text().endswith("held\n"), "the pair is written")
    assert agent.activity()["message_running"]
    found = page(agent)
    assert [(entry["id"], entry["outcome"]) for entry in found["messages"]] == [("m1", "done")]


def test_it_survives_the_process(agents: Agents, agent: AgentProcess) -> None:
    agent.say("hello")
    before = page(agent)
    agent.kill()
    assert page(agents.start().ready()) == before


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [("?limit=0", 422, "limit"), ("?limit=201", 422, "limit"), ("?before=..", 422, "before"), ("?x=1", 422, "x")],
)
def test_a_wrong_query_is_named(agent: AgentProcess, query: str, status: int, field: str) -> None:
    answer = agent.ask("GET", f"/v1/conversation{query}")
    assert (answer.status, answer.json()["errors"][0]["field"]) == (status, field)


def test_an_unknown_message_is_not_found(agent: AgentProcess) -> None:
    answer = agent.ask("GET", "/v1/conversation?before=m9")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")


def test_it_needs_the_token(agent: AgentProcess) -> None:
    assert agent.ask("GET", "/v1/conversation", headers={}).status == 401
    assert agent.ask("DELETE", "/v1/messages/m1", headers={}).status == 401


def pair(name: str, text: str = "x", reply: str = "y", **changes: object) -> bytes:
    at = "2026-01-01T00:00:00.000Z"
    asked = {"id": name, "role": "user", "user_id": "u", "text": text, "at": at}
    replied = {"id": name, "role": "assistant", "text": reply, "outcome": "done", "at": at, **changes}
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in (asked, replied))


@contextmanager
def opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "junk",
    [
        b"no json\n",
        b"\n\n\n",
        b"{}\n",
        b'{"id":"m9","role":"user"}\n',
        b'{"id":"m9","role":"assistant"}\n',
        pair("m9", outcome="splendid"),
        pair("m9", outcome=["done"]),
        pair("m9").replace(b"2026-01-01", b"2026-13-01"),
        b"[" * 100_000 + b"\n",
        b"x" * (3 * BLOCK) + b"\n",
    ],
)
def test_lines_that_are_not_ours_are_passed_over(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(junk + pair("m1") + junk + pair("m2") + junk + b'{"torn')
    with opened(file) as descriptor:
        assert [turn.id for turn in read_turns(descriptor)] == ["m2", "m1"]
        assert [turn.id for turn in read_turns(descriptor, "m2")] == ["m1"]


def test_a_line_longer_than_ours_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_LINE_BYTES", 300)
    file = tmp_path / "file"
    file.write_bytes(pair("m1") + pair("m2", reply="z" * 300) + pair("m3"))
    with opened(file) as descriptor:
        assert [turn.id for turn in read_turns(descriptor)] == ["m3", "m1"]


def test_a_page_is_bounded_and_says_what_it_left_out(tmp_path: Path) -> None:
    file = tmp_path / "file"
    large = "z" * (pages.MAX_TEXT_CHARACTERS + 1)
    file.write_bytes(b"".join(pair(f"m{number}", reply=large) for number in range(10)))
    with opened(file) as descriptor:
        found = take_page(read_turns(descriptor), 10)
    assert found.more
    assert 1 < len(found.turns) < 10
    assert {(len(turn.reply), turn.cut) for turn in found.turns} == {(pages.MAX_TEXT_CHARACTERS, True)}
    assert sum(len(turn.reply) for turn in found.turns) <= pages.MAX_PAGE_BYTES


@given(
    lengths=st.lists(st.one_of(st.integers(0, 5), st.integers(BLOCK - 3, BLOCK + 3)), max_size=4),
    torn=st.integers(0, 3),
)
def test_every_whole_line_is_found_from_the_end(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], torn: int
) -> None:
    file = tmp_path_factory.mktemp("spans") / "file"
    lines = [b"x" * length for length in lengths]
    file.write_bytes(b"".join(line + b"\n" for line in lines) + b"t" * torn)
    data = file.read_bytes()
    with opened(file) as descriptor:
        assert [data[start:end] for start, end in spans_from_the_end(descriptor)] == lines[::-1]
