from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionctl.core.identity import agent_token, new_session_id, parse_name, parse_session_id, parse_user_id
from sessionctl.errors import InvalidRequestError
from sessionctl.models import SessionId

CANONICAL = "3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11"


def test_a_new_id_is_accepted() -> None:
    assert parse_session_id(new_session_id())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        CANONICAL.upper(),
        CANONICAL.replace("-", ""),
        f"{{{CANONICAL}}}",
        f"urn:uuid:{CANONICAL}",
        f"{CANONICAL}\n",
        "407535f6-e7cf-11f1-92c1-02fc00000001",
        "3f0c7f0e-5a52-4b8e-1a9b-0a8f0a2d6c11",
        "../../etc/passwd",
    ],
    ids=repr,
)
def test_anything_but_a_canonical_version_4_uuid_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a session id"):
        parse_session_id(text)


@pytest.mark.parametrize(
    "text",
    ["alice", 'o\'brien "x"', "{{ 7*7 }}", "a: b\n".strip() + " # no", "ユーザー", "👩‍💻", "a" * 256, "$(id)", "-o"],
)
def test_a_user_id_is_kept_as_it_is(text: str) -> None:
    assert parse_user_id(text) == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is empty"),
        ("a" * 257, "more than 256"),
        ("a\nb", r"U\+000A"),
        ("a\x00b", r"U\+0000"),
        ("a\x7fb", r"U\+007F"),
        ("a\x85b", r"U\+0085"),
        ("a\udcffb", r"U\+DCFF"),
    ],
)
def test_a_bad_user_id_is_refused_with_its_cause(text: str, cause: str) -> None:
    with pytest.raises(InvalidRequestError, match=cause):
        parse_user_id(text)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=256))
def test_every_text_without_control_characters_is_a_user_id(text: str) -> None:
    assert parse_user_id(text) == text


@pytest.mark.parametrize("text", ["", "A", "a_b", "-a", "a-", "a" * 64, "a b"])
def test_a_name_must_fit_a_label(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a name for a tenant"):
        parse_name("tenant", text)


def test_a_token_belongs_to_one_session_and_one_platform() -> None:
    other = SessionId("0f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11")
    token = agent_token("key", SessionId(CANONICAL))
    assert token == agent_token("key", SessionId(CANONICAL))
    assert len({token, agent_token("key", other), agent_token("other key", SessionId(CANONICAL))}) == 3
    assert "key" not in token
