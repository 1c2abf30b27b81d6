"""The router between browsers and real managers: two processes on the simulated cluster, with spies for editors."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sessionctl.models import SessionId
from tests.api.manager import Manager, serving
from tests.api.world import make_keys
from tests.support.census import Census
from tests.support.raw_http import NAVIGATION, SCRIPT, WEBSOCKET, Answer, Browser, Connection, render
from tests.support.sessionctl_cli import Cli
from tests.support.spies import Servers, Spy, echo_headers
from tests.support.waiting import wait_for
from tools.localcluster import LocalCluster
from tools.localrouter import LocalRouter
from tools.toolchain import ensure

DOMAIN = "example.test:8443"
LOGIN_URL = "https://app.example.test/editor"
KEYS, STORED = make_keys()
SETTINGS = {"SESSIONCTL_SESSIONS__DOMAIN": DOMAIN, "SESSIONCTL_EDITOR__LOGIN_URL": LOGIN_URL}
SECRET = "/api/v1/namespaces/sessionctl/secrets/sessionctl-platform-key"


@dataclass
class Visitor:
    """A browser with its cookies, at one session's host."""

    port: int
    session_id: str
    session: str = ""
    state: str = ""

    @property
    def browser(self) -> Browser:
        """As it is now."""
        pairs = {"__Host-session": self.session, "__Host-session-state": self.state, "theme": "dark"}
        cookie = "; ".join(f"{name}={value}" for name, value in pairs.items() if value)
        return Browser(self.port, f"vs-code-{self.session_id}.{DOMAIN}", cookie)

    def take(self, answer: Answer) -> Answer:
        """Keep what cookies an answer sets."""
        for each in answer.all("Set-Cookie"):
            name, _, rest = each.partition("=")
            value, _, attributes = rest.partition(";")
            assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in attributes.split(";")}
            assert "domain" not in attributes.lower()
            if name == "__Host-session":
                self.session = value
            elif name == "__Host-session-state":
                self.state = value
        return answer

    def open(self, target: str = "/") -> Answer:
        """Go there."""
        return self.take(self.browser.open(target))


@dataclass
class Town:
    """Two managers, the router, and the editors of two tenants."""

    managers: list[Manager]
    router: LocalRouter
    servers: Servers
    pods: dict[str, Spy]

    def access(self, session_id: str, key: str = "all", **body: str) -> dict[str, str]:
        """Ask for a link, as the backend of a tenant."""
        url = f"{self.managers[0].url}/session/{session_id}/access"
        answer = httpx.post(url, headers={"X-API-Key": KEYS[key]}, json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def link(self, session_id: str, key: str = "all", **body: str) -> str:
        """Return the path of a link."""
        url = self.access(session_id, key, **body)["url"]
        assert url.startswith(f"https://vs-code-{session_id}.{DOMAIN}/_session/login?code=")
        return url[url.index("/_session/") :]

    def visitor(self, session_id: str) -> Visitor:
        """Return somebody who is not signed in."""
        return Visitor(self.router.port, session_id)

    def signed_in(self, session_id: str, key: str = "all") -> Visitor:
        """Return somebody who came in through the application."""
        visitor = self.visitor(session_id)
        sent = visitor.open()
        assert sent.status == 302, sent.text
        target = urlsplit(sent.get("Location"))
        asked = {name: value for name, (value,) in parse_qs(target.query).items()}
        assert f"{target.scheme}://{target.netloc}{target.path}" == LOGIN_URL
        assert asked == {"session": session_id, "state": visitor.state}
        assert re.fullmatch(r"[0-9a-f]{32}", visitor.state)
        entered = visitor.open(self.link(session_id, key, state=visitor.state))
        assert (entered.status, entered.get("Location")) == (303, "/"), entered.text
        assert visitor.session
        assert not visitor.state
        return visitor


@pytest.fixture(scope="module")
def town(
    platform: LocalCluster, sessions: dict[str, SessionId], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    ensure(["nginx"])
    cli = Cli.on(platform)
    first, second, folder = (tmp_path_factory.mktemp(name) for name in ("first", "second", "router"))
    with (
        Servers() as servers,
        serving(cli, first, STORED, "--drain", "0s", **SETTINGS) as one,
        serving(cli, second, STORED, "--drain", "0s", **SETTINGS) as two,
    ):
        values = {"config": {"sessions": {"domain": DOMAIN}, "editor": {"loginUrl": LOGIN_URL}}}
        ports = [int(each.url.rpartition(":")[2]) for each in (one, two)]
        pods = {str(uuid): servers.pod(uuid, echo_headers) for uuid in sessions.values()}
        with LocalRouter(
            folder, values=values, managers=ports, dns=servers.ports["dns"], pod_port=servers.pod_port
        ) as router:
            yield Town([one, two], router, servers, pods)


def _last_active(census: Census, session_id: str) -> int:
    with census.redis() as redis:
        return int(redis.hget(f"session:{session_id}", "last_active") or 0)


def _is_untouched(census: Census, session_id: str) -> bool:
    with census.redis() as redis:
        queue = redis.llen(f"queue:{session_id}")
    return not queue and not _replicas(census, session_id)


def _replicas(census: Census, session_id: str) -> int:
    return int(census.api.get(census.path("deployments", f"user-{session_id}"))["spec"].get("replicas", 1))


def test_a_browser_comes_in_through_the_application_and_the_pod_sees_nothing_of_it(town: Town, mine: SessionId) -> None:
    visitor = town.signed_in(mine)
    pod = town.pods[mine]
    pod.seen.clear()
    assert visitor.open("/folder?x=1").status == 200
    connection, answer = visitor.browser.connect("/socket")
    with connection:
        assert answer.status == 101
        assert connection.say(b"words", b"words").endswith(b"words")
    assert visitor.browser.fetch("/save", "POST", b"file", Origin=f"https://vs-code-{mine}.{DOMAIN}").status == 200
    assert [request.get("cookie").rstrip(";") for request in pod.seen] == ["theme=dark"] * 3
    assert [request.get("host") for request in pod.seen] == [f"vs-code-{mine}.{DOMAIN}"] * 3
    said = "".join(request.text() for request in pod.seen)
    assert visitor.session not in said
    assert "code=" not in said


def test_a_link_without_a_browser_asks_first(town: Town, mine: SessionId) -> None:
    visitor, link = town.visitor(mine), town.link(mine)
    page = visitor.open(link)
    assert (page.status, page.is_page) == (200, True)
    assert "alice" in page.text
    assert visitor.state
    assert not visitor.session
    form = NAVIGATION | {"Sec-Fetch-Site": "same-origin", "Origin": "null"}
    entered = visitor.take(visitor.browser.ask("POST", link, form))
    assert (entered.status, entered.get("Location")) == (303, "/")
    assert visitor.open().status == 200


def test_nobody_comes_into_the_session_of_another_tenant(town: Town, mine: SessionId, other: SessionId) -> None:
    """Each line is a credential of A at the host of B."""
    ours, theirs, pod = town.signed_in(mine), town.signed_in(other, "other"), town.pods[other]
    assert theirs.open().status == 200
    pod.seen.clear()
    token = town.access(mine)["token"]
    host = f"vs-code-{other}.{DOMAIN}"
    stranger = Browser(town.router.port, host)
    tries = {
        "cookie": {"Cookie": f"__Host-session={ours.session}"},
        "cookie and forged headers": {
            "Cookie": f"__Host-session={ours.session}",
            "X-Session-Id": other,
            "X-Session-Cookie": theirs.session,
            "X-Session-Host": host,
            "X-Original-URL": "/",
        },
        "its cookie in a header for managers": {"X-Session-Id": other, "X-Session-Cookie": theirs.session},
        "token": {"Authorization": f"Bearer {token}"},
        "token as a cookie": {"Cookie": f"__Host-session={token}"},
        "key": {"X-API-Key": KEYS["all"]},
        "key of that very tenant": {"X-API-Key": KEYS["other"]},
        "key as a cookie": {"Cookie": f"__Host-session={KEYS['other']}"},
        "tossed cookie": {"Cookie": f"__Secure-session={theirs.session}; session={theirs.session}"},
        "cut cookie": {"Cookie": f"__Host-session={theirs.session[:-1]}"},
        "ours before it is read as theirs": {"Cookie": f"__Host-session={ours.session}; __Host-session={ours.session}"},
    }
    for name, headers in tries.items():
        assert stranger.ask("GET", "/", SCRIPT, headers).status == 401, name
        assert stranger.ask("GET", "/", NAVIGATION, headers).status == 302, name
        origin = {"Origin": f"https://{host}"}
        assert stranger.ask("POST", "/", SCRIPT, origin, headers).status == 401, name
        assert stranger.ask("GET", "/", WEBSOCKET, origin, headers).status == 401, name
        assert stranger.ask("GET", "/_session/progress", SCRIPT, headers).status == 401, name
    for state in (ours.state, "s" * 32):
        link = town.link(mine, state="s" * 32)
        refused = stranger.open(link, Cookie=f"__Host-session-state={state}")
        assert (refused.status, refused.all("Set-Cookie")) == (403, [])
    assert pod.seen == []


def test_a_link_opens_once_and_in_its_browser(town: Town, mine: SessionId) -> None:
    visitor, state = town.visitor(mine), "s" * 32
    visitor.state = state
    link = town.link(mine, state=state)
    elsewhere = town.visitor(mine)
    assert elsewhere.open(link).status == 403
    elsewhere.state = "t" * 32
    assert elsewhere.open(link).status == 403
    assert visitor.open(link).status == 303
    visitor.state = state
    again = visitor.open(link)
    assert (again.status, again.is_page) == (403, True)
    assert not elsewhere.session


@pytest.fixture
def asleep(town: Town, mine: SessionId, census: Census) -> Iterator[Visitor]:
    """Somebody signed in to a session that sleeps and whose Service refuses connections."""
    visitor, pod = town.signed_in(mine), town.pods[mine]
    pod.stop()
    post = f"{town.managers[0].url}/session/{mine}/sleep?force=true"
    assert httpx.post(post, headers={"X-API-Key": KEYS["all"]}).status_code < 300
    wait_for(lambda: _is_untouched(census, mine), "the session sleeps")
    yield visitor
    pod.start()


def test_nothing_but_opening_the_page_wakes(town: Town, mine: SessionId, census: Census, asleep: Visitor) -> None:
    origin = {"Origin": f"https://vs-code-{mine}.{DOMAIN}"}
    stranger = town.visitor(mine).browser
    before = _last_active(census, mine)
    for browser in (stranger, asleep.browser):
        inside = browser is not stranger
        requests = [
            ("GET", SCRIPT),
            ("HEAD", NAVIGATION),
            ("POST", SCRIPT | origin),
            ("POST", NAVIGATION | {"Sec-Fetch-Site": "same-origin"} | origin),
            ("GET", NAVIGATION | {"Sec-Purpose": "prefetch"}),
            ("GET", NAVIGATION | {"Purpose": "prefetch"}),
            ("GET", WEBSOCKET | origin),
            ("OPTIONS", SCRIPT),
            ("GET", {"Accept": "*/*"}),
        ]
        with Connection(town.router.port) as connection:
            for method, headers in requests * 20:
                answer = connection.send(render(method, "/", browser.headers(headers)), method)
                assert answer.status in ({503} if inside else {401, 302}), (method, headers)
                assert not (inside and answer.is_page)
        for path in ("/_session/wait?to=/", "/_session/login?code=x", "/_session/logout"):
            browser.open(path)
    assert _is_untouched(census, mine)
    assert _last_active(census, mine) == before


def test_opening_the_page_wakes_and_shows_what_is_waited_for(
    town: Town, mine: SessionId, census: Census, asleep: Visitor
) -> None:
    page = asleep.open("/folder")
    assert (page.status, page.is_page, page.get("Cache-Control")) == (503, True, "no-store")
    assert page.get("Retry-After")
    wait_for(lambda: _replicas(census, mine) == 1, "the Deployment is scaled up")
    # Its own refresh shows the page again; the editor opens as soon as it is there.
    again = asleep.open("/_session/wait?to=/folder")
    assert (again.status, again.is_page) == (503, True)
    town.pods[mine].start()
    assert asleep.open("/folder").status == 200


def test_who_uses_an_editor_keeps_it_awake(town: Town, mine: SessionId, census: Census) -> None:
    visitor = town.signed_in(mine)
    assert (
        httpx.post(f"{town.managers[0].url}/session/{mine}/wake", headers={"X-API-Key": KEYS["all"]}).status_code == 202
    )
    wait_for(lambda: _replicas(census, mine) == 1, "it is awake")
    before = _last_active(census, mine)

    def is_noted() -> bool:
        assert visitor.browser.fetch("/file").status == 200
        return _last_active(census, mine) > before

    wait_for(is_noted, "a request through the router is activity")


def test_what_is_revoked_is_shut(town: Town, mine: SessionId) -> None:
    visitor, bystander = town.signed_in(mine), town.signed_in(mine)
    assert visitor.open().status == bystander.open().status == 200
    revoked = httpx.delete(
        f"{town.managers[0].url}/session/{mine}/access", headers={"X-API-Key": KEYS["all"]}, timeout=60
    )
    assert revoked.status_code == 204
    wait_for(lambda: visitor.browser.fetch("/").status == 401, "the cookie is refused", patience=20)
    wait_for(lambda: bystander.browser.open().status == 302, "so is the other one", patience=20)
    assert town.signed_in(mine).open().status == 200


def test_the_router_s_paths_are_not_the_api_s(town: Town) -> None:
    """The Ingress of the API leads `/router` to the router, which has no such host."""
    api = Browser(town.router.port, "api.example.test")
    for path in ("/router/auth", "/router", "/router/login?code=x"):
        assert api.ask("GET", path, NAVIGATION).status == 404


def test_without_managers_open_editors_go_on_and_nobody_is_asked_to_guess(
    town: Town, platform: LocalCluster, mine: SessionId, other: SessionId, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Last, because it ends them; and then the platform's key is changed."""
    inside, outside, revoked = town.signed_in(mine), town.signed_in(other, "other"), town.signed_in(mine)
    assert inside.open().status == 200
    connection, answer = inside.browser.connect()
    with connection:
        assert answer.status == 101
        for manager in town.managers:
            manager.tell(signal.SIGKILL)
            manager.wait()
        for _ in range(20):
            assert inside.browser.fetch("/file").status == 200
        assert connection.say(b"on", b"on").endswith(b"on")
    # Whom no manager has let in lately.
    page = outside.open()
    assert (page.status, page.is_page) == (503, True)
    assert "cannot be reached right now" in page.text
    town.pods[mine].stop()
    asleep = inside.open()
    assert (asleep.status, asleep.is_page) == (503, True)
    assert "cannot be reached right now" in asleep.text
    town.pods[mine].start()
    _change_the_platform_key(town, platform, revoked, tmp_path_factory)


def _change_the_platform_key(
    town: Town, platform: LocalCluster, visitor: Visitor, folders: pytest.TempPathFactory
) -> None:
    """While both keys are there old cookies open; afterwards they do not."""
    old = json.loads(platform.kubectl("get", "--raw", SECRET))["data"]["key"]
    new = base64.b64encode(b"another key of the platform").decode()
    try:
        for data, status in (({"key": new, "previous-key": old}, 200), ({"key": new, "previous-key": None}, 401)):
            _patch(platform, data)
            port = int(town.managers[0].url.rpartition(":")[2])
            folder = folders.mktemp("rotated")
            with serving(Cli.on(platform), folder, STORED, "--drain", "0s", "--port", str(port), **SETTINGS):

                def answers(status: int = status) -> bool:
                    return visitor.browser.fetch("/").status == status

                wait_for(answers, f"an old cookie gets {status}", patience=20)
    finally:
        _patch(platform, {"key": old, "previous-key": None})


def _patch(platform: LocalCluster, data: dict[str, str | None]) -> None:
    patch = json.dumps({"data": data})
    platform.kubectl("-n", "sessionctl", "patch", "secret", "sessionctl-platform-key", "--type=merge", "--patch", patch)
