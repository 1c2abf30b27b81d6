"""`sessionctl apikey`: keys are made, listed and revoked in the Secret that managers read."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from sessionctl.core.keys import KeyRing, parse_entry
from sessionctl.errors import ConflictError, UnauthenticatedError
from sessionctl.factory import Factory
from sessionctl.models import ApiKey, Scope
from sessionctl.testing.clock import FakeClock
from tests.support.sessionctl_cli import Cli
from tools.localcluster import LocalCluster
from tools.localcluster.api import Api

SECRET = "/api/v1/namespaces/sessionctl/secrets/sessionctl-api-keys"


@pytest.fixture
def operator(platform: LocalCluster) -> Iterator[Cli]:
    """The command line; the keys that a test makes end with it."""
    cli = Cli.on(platform)
    before = set(entries(platform))
    yield cli
    for name in set(entries(platform)) - before:
        cli.run("apikey", "revoke", name)


def entries(platform: LocalCluster) -> dict[str, str]:
    found = Api.from_kubeconfig(platform.kubeconfig).get(SECRET).get("data") or {}
    return {name: base64.b64decode(value).decode() for name, value in found.items()}


def ring(platform: LocalCluster) -> KeyRing:
    """Return the keys as a manager reads them."""
    found = KeyRing(FakeClock())
    found.replace(_read(platform))
    return found


def _read(platform: LocalCluster) -> Iterator[ApiKey]:
    for name, text in entries(platform).items():
        yield parse_entry(name, text)


def test_a_key_is_shown_once_and_works_until_it_is_revoked(platform: LocalCluster, operator: Cli) -> None:
    made = operator.json("apikey", "create", "backend", "--tenant", "acme", "--scope", "read", "--scope", "access")
    assert {name: made[name] for name in ("id", "tenant", "scopes", "expires_at")} == {
        "id": "backend",
        "tenant": "acme",
        "scopes": ["access", "read"],
        "expires_at": None,
    }
    assert made["key"] not in str(entries(platform))
    assert ring(platform).identify(made["key"]).tenant == "acme"
    listed = operator.run("apikey", "list", "-o", "json")
    assert {"id": "backend", "tenant": "acme", "scopes": ["access", "read"], "expires_at": None} in listed.json["keys"]
    assert made["key"] not in listed.stdout
    assert operator.run("apikey", "revoke", "backend").code == 0
    with pytest.raises(UnauthenticatedError):
        ring(platform).identify(made["key"])
    assert operator.run("apikey", "revoke", "backend").code == 3


def test_a_name_in_use_is_refused_and_its_key_stays(platform: LocalCluster, operator: Cli) -> None:
    made = operator.json("apikey", "create", "taken")
    again = operator.run("apikey", "create", "taken")
    assert (again.code, again.stdout) == (4, "")
    assert "apikey revoke taken" in again.stderr
    assert ring(platform).identify(made["key"]).name == "taken"


def test_keys_made_at_the_same_moment_do_not_lose_each_other(platform: LocalCluster, operator: Cli) -> None:
    running = [operator.start("apikey", "create", name, "-o", "json") for name in ("one", "two", "one")]
    done = [each.wait() for each in running]
    assert sorted(each.code for each in done) == [0, 0, 4]
    for each in done:
        if each.code == 0:
            assert ring(platform).identify(each.json["key"]).name == each.json["id"]


def test_a_key_ends_after_the_time_given(operator: Cli) -> None:
    made = operator.json("apikey", "create", "short", "--expires", "90d")
    assert made["expires_at"] is not None
    table = operator.run("apikey", "list").stdout
    assert "short" in table


@pytest.mark.parametrize(
    "argv", [("A_B",), ("x", "--scope", "everything"), ("x", "--tenant", "A"), ("x", "--expires", "soon")]
)
def test_bad_input_makes_no_key(platform: LocalCluster, operator: Cli, argv: tuple[str, ...]) -> None:
    before = entries(platform)
    refused = operator.run("apikey", "create", *argv)
    assert (refused.code, refused.stdout) == (2, "")
    assert entries(platform) == before


def test_a_broken_entry_is_listed_as_one(platform: LocalCluster, operator: Cli) -> None:
    operator.json("apikey", "create", "broken")
    patch = base64.b64encode(b"nothing").decode()
    platform.kubectl(
        "-n", "sessionctl", "patch", "secret", "sessionctl-api-keys", "-p", f'{{"data": {{"broken": "{patch}"}}}}'
    )
    listed = operator.json("apikey", "list")
    assert "broken" in listed["broken"]
    assert "broken" not in {key["id"] for key in listed["keys"]}


async def test_of_two_who_take_a_name_at_the_same_moment_one_is_told(
    platform: LocalCluster, operator: Cli, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    late, early = factory.create_key_admin(), factory.create_key_admin()
    write = late._vault.write
    made: list[str] = []

    async def overtaken(key_id: str, entry: str | None, version: str) -> None:
        if not made:
            made.append((await early.create("wanted", "acme", [Scope.READ], None))[0])
        await write(key_id, entry, version)

    monkeypatch.setattr(late._vault, "write", overtaken)
    with pytest.raises(ConflictError, match="already"):
        await late.create("wanted", "acme", [Scope.READ], None)
    assert ring(platform).identify(made[0]).name == "wanted"
