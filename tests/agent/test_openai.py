from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionctl.agent.completions import MAX_EVENT_BYTES
from tests.agent.model_server import DONE, ModelServer, Say, chunk
from tests.agent.process import AgentProcess, Agents, outcomes_of, reply_of

KEY = "sk-not-to-be-seen-0123456789"


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer().serving() as server:
        yield server


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    return file


def start(agents: Agents, url: str, key: Path | None = None, **changes: str) -> AgentProcess:
    return agents.start(
        SESSIONCTL_AGENT_KIND="openai",
        SESSIONCTL_AGENT_OPENAI_BASE_URL=url,
        SESSIONCTL_AGENT_OPENAI_MODEL="coder",
        SESSIONCTL_AGENT_OPENAI_KEY_FILE="" if key is None else str(key),
        **{f"SESSIONCTL_AGENT_OPENAI_{name}": value for name, value in changes.items()},
    ).ready()


def test_it_asks_the_model_and_streams_its_answer(agents: Agents, model: ModelServer, key: Path) -> None:
    agent = start(agents, model.url, key)
    lines = agent.say("hi")
    assert [line.get("delta") for line in lines] == ["Hel", "lo", "!", None]
    assert outcomes_of(lines) == ["done"]
    ((path, headers, body),) = model.requests
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert body == {"model": "coder", "messages": [{"role": "user", "content": "hi"}], "stream": True}


def test_without_a_key_none_is_shown(agents: Agents, model: ModelServer) -> None:
    agent = start(agents, model.url + "/")
    assert reply_of(agent.say("hi")) == "Hello!"
    assert "Authorization" not in model.requests[0][1]
    assert model.requests[0][0] == "/v1/chat/completions"


def test_a_key_that_was_changed_is_taken_at_the_next_message(agents: Agents, model: ModelServer, key: Path) -> None:
    agent = start(agents, model.url, key)
    agent.say("hi")
    key.write_text("another")
    agent.say("hi", "m2")
    assert [headers["Authorization"] for _, headers, _ in model.requests] == [f"Bearer {KEY}", "Bearer another"]
    key.unlink()
    (line,) = agent.say("hi", "m3")
    assert (line["outcome"], "key" in line["reason"], str(key) in line["reason"]) == ("failed", True, False)


def test_the_conversation_is_told_also_over_a_restart(agents: Agents, model: ModelServer) -> None:
    agent = start(agents, model.url, SYSTEM_PROMPT="Be brief.")
    agent.say("one")
    model.refusal = (500, {}, b"")
    assert outcomes_of(agent.say("two", "m2")) == ["failed"]
    agent.terminate()
    model.refusal = None
    start(agents, model.url, SYSTEM_PROMPT="Be brief.").say("three", "m3")
    assert model.messages == [
        *(("system", "Be brief."), ("user", "one"), ("assistant", "Hello!")),
        ("user", "three"),
    ], "what got no reply is left out"


def test_of_the_conversation_the_end_is_told_as_far_as_there_is_room(agents: Agents, model: ModelServer) -> None:
    agent = start(agents, model.url, CONTEXT_CHARACTERS="30")
    for number in range(5):
        agent.say(f"text {number}", f"m{number}")
    assert [text for role, text in model.messages if role == "user"] == ["text 2", "text 3", "text 4"]
    agent.terminate()
    agent = start(agents, model.url, CONTEXT_CHARACTERS="8")
    agent.say("more", "m8")
    assert model.messages == [("user", "xt 4"), ("assistant", "llo!"), ("user", "more")]
    agent.terminate()
    start(agents, model.url, CONTEXT_CHARACTERS="0").say("more", "m9")
    assert model.messages == [("user", "more")]


def test_the_first_words_do_not_wait_for_the_rest(agents: Agents, model: ModelServer) -> None:
    def halting(say: Say) -> None:
        say(chunk("one"))
        model.may_end.wait(60)
        say(chunk("two", finish="stop") + DONE)

    model.answer = halting
    answer = start(agents, model.url).send("hi")
    assert (answer.line() or {})["delta"] == "one"
    model.may_end.set()
    assert reply_of(answer.lines()) == "two"


@pytest.mark.parametrize(
    ("end", "outcome", "reply"),
    [
        (chunk("b", finish="stop").rstrip(b"\n"), "done", "ab"),
        (chunk("b") + DONE.rstrip(b"\n"), "done", "ab"),
        (chunk("b") + DONE, "done", "ab"),
        (b"data:" + chunk(finish="stop")[5:40], "failed", "a"),
        (b"data: [DO", "failed", "a"),
    ],
    ids=["no newline", "no newline after its end", "no reason why it ended", "half a line", "half its end"],
)
def test_a_stream_counts_up_to_its_last_byte(
    agents: Agents, model: ModelServer, end: bytes, outcome: str, reply: str
) -> None:
    model.answer = lambda say: say(chunk("a") + end)
    lines = start(agents, model.url).say("hi")
    assert (outcomes_of(lines), reply_of(lines)) == ([outcome], reply)


def test_cancelled_it_stops_listening(agents: Agents, model: ModelServer) -> None:
    def endless(say: Say) -> None:
        while True:
            say(chunk("x"))
            model.may_end.wait(0.01)

    model.answer = endless
    agent = start(agents, model.url)
    answer = agent.send("hi")
    assert answer.line()
    assert agent.ask("DELETE", "/v1/messages/m1").json()["outcome"] == "cancelled"
    assert outcomes_of(answer.lines()) == ["cancelled"]
    assert model.left.wait(60)


def test_characters_in_parts_and_halves(agents: Agents, model: ModelServer) -> None:
    def torn(say: Say) -> None:
        whole = 'data: {"choices":[{"delta":{"content":"é日"}}]}\r\n\r\n'.encode()
        for at in range(len(whole)):
            say(whole[at : at + 1])
        say(b'data:{"choices":[{"delta":{"content":"\\ud83d"},"finish_reason":"stop"}]}\n\n' + DONE)

    model.answer = torn
    lines = start(agents, model.url).say("hi")
    assert (reply_of(lines), outcomes_of(lines)) == ("é日?", ["done"])


def test_an_answer_that_is_none_is_a_failed_message(agents: Agents, model: ModelServer) -> None:
    agent = start(agents, model.url)
    for number, (said, reason) in enumerate(
        [
            (b"", "the model's endpoint broke its answer off"),
            (chunk("part"), "the model's endpoint broke its answer off"),
            (chunk("part") + b"data: no json\n\n", "the model's endpoint answered with something else"),
            (b"data: " + b"x" * (MAX_EVENT_BYTES + 100_000), "the model's endpoint answered with something else"),
            (
                chunk("part") + b'data: {"error":{"message":"overloaded"}}\n\n',
                "the model's endpoint failed: overloaded",
            ),
            (b'data: {"error":"overloaded"}\n\n', "the model's endpoint failed: overloaded"),
            (b"<html>hello</html>\n", "the model's endpoint broke its answer off"),
        ]
    ):
        model.answer = lambda say, said=said: say(said)  # type: ignore[misc]
        lines = agent.say("hi", f"m{number}")
        assert (reply_of(lines), outcomes_of(lines)) == ("part" if b"part" in said else "", ["failed"])
        assert lines[-1]["reason"].startswith(reason)


def test_a_refusal_is_a_failed_message_without_the_key(agents: Agents, model: ModelServer, key: Path) -> None:
    agent = start(agents, model.url, key)
    refusals = [
        (401, f'{{"error":{{"message":"bad key {KEY}"}}}}'.encode(), " 401: bad key ***"),
        (429, b'{"detail":"slow down"}', " 429: slow down"),
        (500, b"<b>sorry</b>\n" + b"x" * 100_000, " 500: <b>sorry</b> xxxx"),
        (503, b"", " 503"),
        (307, b"", " 307"),
        (204, b"", " 204"),
    ]
    for status, body, reason in refusals:
        model.refusal = (status, {"Location": f"{model.url}/elsewhere"}, body)
        (line,) = agent.say("hi", f"m{status}")
        assert line["outcome"] == "failed"
        assert line["reason"].startswith(f"the model's endpoint answered{reason}")
        assert len(line["reason"]) < 400
    assert len(model.requests) == len(refusals), "no redirect is followed"
    agent.terminate()
    files = [file.read_bytes() for file in agents.workspace.rglob("*") if file.is_file()]
    assert not any(KEY.encode() in data for data in [*files, agent.log.read_bytes()])


def test_an_endpoint_that_is_not_there_or_says_nothing(agents: Agents, model: ModelServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}"
    agent = start(agents, nobody)
    (line,) = agent.say("hi")
    assert (line["outcome"], line["reason"]) == ("failed", "the model's endpoint could not be reached")
    agent.terminate()
    assert "secret" not in agent.log.read_text()

    def silent(say: Say) -> None:
        say(chunk("part"))
        model.may_end.wait(60)

    model.answer = silent
    lines = start(agents, model.url, TIMEOUT="1").say("hi", "m2")
    assert (reply_of(lines), lines[-1]["reason"]) == ("part", "the model's endpoint was silent for 1 s")


def test_one_that_was_cut_off_is_asked_again(agents: Agents, model: ModelServer) -> None:
    def halting(say: Say) -> None:
        say(chunk("part"))
        model.may_end.wait(60)

    whole, model.answer = model.answer, halting
    agent = start(agents, model.url)
    assert agent.send("hi").line()
    agent.kill()
    model.answer = whole
    lines = start(agents, model.url).say("hi")
    assert (reply_of(lines), outcomes_of(lines), {line["attempt"] for line in lines}) == ("Hello!", ["done"], {2})
    assert model.messages == [("user", "hi")]
