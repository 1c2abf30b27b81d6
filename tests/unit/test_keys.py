from __future__ import annotations

import asyncio
import json
import logging
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sessionctl.adapters.keys import DirectoryKeySource
from sessionctl.core.keys import KeyKeeper, KeyRing, make_key, parse_entry, render_entry
from sessionctl.errors import ConfigurationError, InvalidRequestError, UnauthenticatedError
from sessionctl.models import ApiKey, Caller, Scope
from sessionctl.testing.clock import FakeClock
from tests.api.manager import write_keys
from tests.support.waiting import until

SCOPES = [Scope.READ, Scope.WRITE]


def ring(*keys: ApiKey) -> KeyRing:
    found = KeyRing(FakeClock())
    found.replace(keys)
    return found


def test_a_key_has_its_form_and_is_known_by_its_digest_alone() -> None:
    text, stored = make_key("backend", "acme", SCOPES, None)
    assert re.fullmatch(r"sck_backend_[A-Za-z0-9_-]{43}", text)
    assert text not in render_entry(stored)
    assert ring(stored).identify(text) == Caller("backend", "acme", frozenset(SCOPES))
    assert make_key("backend", "acme", SCOPES, None)[0] != text


def test_whatever_is_not_quite_a_key_is_none() -> None:
    text, stored = make_key("backend", "acme", SCOPES, None)
    for wrong in ("", text[:-1], f"{text}x", text.upper(), text.replace("backend", "other"), f" {text}", stored.digest):
        with pytest.raises(UnauthenticatedError):
            ring(stored).identify(wrong)


def test_a_key_ends_when_it_says() -> None:
    clock = FakeClock()
    text, stored = make_key("backend", "acme", SCOPES, clock.now() + timedelta(seconds=1))
    keys = KeyRing(clock)
    keys.replace([stored])
    assert keys.identify(text).tenant == "acme"
    keys.replace([replace(stored, expires_at=clock.now())])
    with pytest.raises(UnauthenticatedError):
        keys.identify(text)


@pytest.mark.parametrize("name", ["", "UPPER", "a_b", "-a", "a" * 64, "a/b"])
def test_a_name_is_one_that_a_secret_and_a_key_can_hold(name: str) -> None:
    with pytest.raises(InvalidRequestError):
        make_key(name, "acme", SCOPES, None)


def test_an_entry_reads_back() -> None:
    for expires_at in (None, datetime(2030, 1, 1, tzinfo=UTC)):
        _, stored = make_key("backend", "acme", SCOPES, expires_at)
        assert parse_entry("backend", render_entry(stored)) == stored


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "sck_backend_secret"},
        {"digest": None},
        {"tenant": "ACME"},
        {"tenant": None},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": "anything"},
        {"expires_at": "tomorrow"},
        {"colour": "red"},
    ],
)
def test_a_broken_entry_is_refused_without_quoting_it(change: dict[str, object]) -> None:
    _, stored = make_key("backend", "acme", SCOPES, None)
    entry = json.loads(render_entry(stored)) | change
    with pytest.raises(ValueError, match=r".") as refused:
        parse_entry("backend", json.dumps(entry))
    assert not any(str(value) in str(refused.value) for value in change.values() if value)


async def test_keys_are_read_again_when_the_directory_changes_only(tmp_path: Path) -> None:
    read: list[str] = []

    def parse(name: str, text: str) -> ApiKey:
        read.append(name)
        return parse_entry(name, text)

    source = DirectoryKeySource(tmp_path, parse)
    assert await source.load() == []
    one, two = make_key("one", "acme", SCOPES, None)[1], make_key("two", "acme", SCOPES, None)[1]
    write_keys(tmp_path, {"one": one})
    assert await source.load() == [one]
    assert await source.load() == [one]
    assert read == ["one"]
    write_keys(tmp_path, {"one": one, "two": two})
    assert await source.load() == [one, two]
    write_keys(tmp_path, {"two": two})
    assert await source.load() == [two]


async def test_a_broken_entry_takes_no_other_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = make_key("good", "acme", SCOPES, None)[1]
    (tmp_path / "good").write_text(render_entry(good))
    (tmp_path / "bad").write_bytes(b"\xff")
    (tmp_path / "worse").write_text("sck_worse_secret")
    (tmp_path / "folder").mkdir()
    assert await DirectoryKeySource(tmp_path, parse_entry).load() == [good]
    assert all(name in caplog.text for name in ("bad", "worse", "folder"))
    assert "sck_worse_secret" not in caplog.text


async def test_while_keys_cannot_be_read_the_last_ones_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    text, stored = make_key("backend", "acme", SCOPES, None)
    directory = tmp_path / "keys"
    directory.mkdir()
    write_keys(directory, {"backend": stored})
    keys, clock = KeyRing(FakeClock()), FakeClock()
    keeper = KeyKeeper(DirectoryKeySource(directory, parse_entry), keys, clock)
    await keeper.load()
    directory.rename(tmp_path / "hidden")
    with pytest.raises(ConfigurationError):
        await keeper.load()
    going = asyncio.create_task(keeper.forever())
    await until(lambda: "stay valid" in caplog.text, "the loss is told")
    assert keys.identify(text).name == "backend"
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
