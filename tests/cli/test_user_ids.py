"""A user id is the company's: it comes back byte for byte, whatever it looks like to a shell, YAML or a template."""

from __future__ import annotations

import json

import pytest

from tests.support.census import Census
from tests.support.served_api import ServedApi
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps

USER_IDS = {
    "quotes": """o'neil "the" `boss` \\ back\\slash \\n \\u0041""",
    "unicode": "ünïcödé 名前 \u202etxt.exe\u202c e\u0301 \u2028 \ufeff 🦊👩‍👩‍👧",
    "jinja": "{{ 7 * 7 }}{% for x in range(9) %}x{% endfor %}{# gone #}{{ uuid }}",
    "go-template": '{{ .Values.agent.token }}{{- printf "%s" .Release.Name -}}{{ fail "no" }}',
    "yaml": "a: b # c\t".strip() + " - [x] &anchor *alias !!binary | > %TAG",
    "number": "0123e4",
    "null": "null",
    "spaces": "  two  ",
    "dash": "--profile=large",
    "shell": '$(touch pwned) ${HOME} ; rm -rf / && * ~ "',
    "helm-set": "a=b,c={d,e},f[0]=g",
    "longest": "é" * 256,
}


@pytest.mark.parametrize("user_id", USER_IDS.values(), ids=USER_IDS)
def test_a_user_id_comes_back_byte_for_byte(cli: Cli, census: Census, steps: Steps, user_id: str) -> None:
    check(cli, census, steps, user_id)


# Those that an URL or a JSON body could change.
@pytest.mark.parametrize("name", ["quotes", "unicode", "spaces", "helm-set"])
def test_a_user_id_comes_back_byte_for_byte_through_the_api(
    served: ServedApi, census: Census, steps: Steps, name: str
) -> None:
    check(served.cli(), census, steps, USER_IDS[name])


def check(cli: Cli, census: Census, steps: Steps, user_id: str) -> None:
    done = cli.run("create", "--user", user_id, "--output", "json")
    uuid = done.json["uuid"]
    steps.made.append(uuid)

    assert done.json["user_id"] == user_id
    # JSON is printed as it is, not as escapes that a reader may not undo.
    assert json.dumps(user_id, ensure_ascii=False).encode() in done.out
    assert cli.json("status", uuid)["session"]["user_id"] == user_id
    assert [row["uuid"] for row in cli.json("list", "--user", user_id)["sessions"]] == [uuid]
    remains = census.of(uuid)
    assert remains.objects["configmaps"]["data"]["USER_ID"] == user_id
    assert remains.volume
    for item in (remains.volume, remains.objects["deployments"]):
        assert item["metadata"]["annotations"]["sessionctl.dev/user-id"] == user_id
    with census.redis() as redis:
        assert redis.hget(f"session:{uuid}", "user_id") == user_id
    # One session is one line, whatever its user is called.
    assert len(cli.run("list", "--user", user_id).stdout.splitlines()) == 2


async def test_a_user_id_outlives_delete_and_restore(census: Census, steps: Steps) -> None:
    user_id = USER_IDS["unicode"] + USER_IDS["go-template"]
    session_id = await steps.create(user_id)
    await steps.delete(session_id)
    await steps.restore(session_id)
    remains = census.of(session_id)
    assert remains.objects["configmaps"]["data"]["USER_ID"] == user_id
    assert steps.cli.json("status", session_id)["session"]["user_id"] == user_id
