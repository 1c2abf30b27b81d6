"""`make first-user`: what a new user of the API sees, with curl and the default timeouts, on real pods and managers.

Create, wake, status, leave it alone until no pod is left, wake again; then every other call of the API. Each command is
shown with its answer. What must hold is checked: every field is there, and the session sleeps in time.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.curl import Curl
from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.api import Api
from tools.localcluster.managers import make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tools.curl import Answer

ASLEEP_SECONDS: Final = 125.0
"""After the last activity: 120 s of idle time, 2 s by which it may be noted late, and three looks of the sweeper."""
POD_GONE_SECONDS: Final = 5.0
"""After the session was put to sleep, for a pod in which nothing runs."""
PATIENCE_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.1
_OK: Final = 200
_GONE: Final = 404

CREATED: Final = {"uuid", "user_id", "status", "created_at", "url"}
ACTION: Final = {"uuid", "action", "status"}
STATUS: Final = {"uuid", "session", "queue_length", "replicas", "timestamp"}
SESSION: Final = {"user_id", "tenant", "profile", "status", "url", "created_at", "last_active"}
QUEUED_CHAT: Final = {"uuid", "action", "status", "message_id"}
CHAT_REPLY: Final = {*QUEUED_CHAT, "reply"}
CONVERSATION: Final = {"uuid", "messages", "partial"}
WHY: Final = {"uuid", "status", "awake", "held_by", "sleeps_at", "limits"}
ACCESS: Final = {"uuid", "url", "token", "expires_at"}


class FirstUserError(ToolError):
    """An answer was not what the contract says."""


def expect(found: object, wanted: object, what: str) -> None:
    """Compare.

    Raises:
        FirstUserError: They differ.
    """
    if found != wanted:
        raise FirstUserError(
            f"{what} is {found!r}, not {wanted!r}", "see the answer above, and the logs of the managers"
        )


def fields(answer: Answer, status: int, names: Iterable[str]) -> dict[str, Any]:
    """Return the body of an answer after a look at its status and its fields.

    Raises:
        FirstUserError: One is missing, or the status is another.
    """
    expect(answer.status, status, "the status of the answer")
    body: dict[str, Any] = answer.json
    expect(set(names) - set(body), set(), "what is missing in the answer")
    return body


@dataclass(frozen=True)
class Workload:
    """A session's Deployment and pods, as the API server shows them."""

    api: Api
    uuid: str

    def replicas(self) -> int:
        """Return what is wanted."""
        found = self.api.get(f"/apis/apps/v1/namespaces/sessions/deployments/user-{self.uuid}")
        return int(found["spec"]["replicas"])

    def pods(self) -> int:
        """Count the pods that are there, ending ones too."""
        return len(self.api.get(f"/api/v1/namespaces/sessions/pods?labelSelector=uuid%3D{self.uuid}")["items"])


@dataclass
class Sleep:
    """Notes when a session is put to sleep, and when its pod is gone."""

    workload: Workload

    def __post_init__(self) -> None:
        """Begin to look."""
        self.asleep_at = self.gone_at = 0.0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while self.workload.replicas():
            time.sleep(_LOOK_SECONDS)
        self.asleep_at = time.monotonic()
        while self.workload.pods():
            time.sleep(_LOOK_SECONDS)
        self.gone_at = time.monotonic()


@dataclass
class FirstUser:
    """The steps, each of which may be run by itself after `create`."""

    curl: Curl
    api: Api
    say: Callable[[str], None]
    user: str = "alice"
    uuid: str = ""
    used_at: float = 0.0

    @property
    def workload(self) -> Workload:
        """Return the session's Deployment and pods."""
        return Workload(self.api, self.uuid)

    def create(self) -> None:
        """Make a session: 201, asleep."""
        body = fields(self.curl.post("/session/create", {"user_id": self.user}), 201, CREATED)
        self.uuid = body["uuid"]
        expect((body["user_id"], body["status"]), (self.user, "created"), "user and status")
        expect((self.workload.replicas(), self.workload.pods()), (0, 0), "replicas and pods")

    def wake(self) -> float:
        """Wake it: 202 at once; return the seconds until its pod was ready."""
        began = time.monotonic()
        answer = fields(self.curl.post(f"/session/{self.uuid}/wake"), 202, ACTION)
        expect(answer, {"uuid": self.uuid, "action": "wake", "status": "queued"}, "the answer")
        self.used_at = time.monotonic()
        self.status_reaches("active")
        return time.monotonic() - began

    def status(self, wanted: str) -> dict[str, Any]:
        """Look at it."""
        body = fields(self.curl.get(f"/session/{self.uuid}/status"), 200, STATUS)
        expect(SESSION - set(body["session"]), set(), "what is missing in the session")
        expect(body["session"]["status"], wanted, "the status")
        expect((body["queue_length"], body["replicas"]), (0, int(wanted == "active")), "queue_length and replicas")
        return body

    def idle(self, wait: Callable[[], object]) -> tuple[float, float]:
        """Leave it alone: afterwards there is no pod. Return when it slept after its last use, and its pod's end."""
        used_at, sleep = self.used_at, Sleep(self.workload)
        wait()
        expect((self.workload.replicas(), self.workload.pods()), (0, 0), "replicas and pods")
        self._until(lambda: sleep.gone_at > 0, "its pod is gone")
        return sleep.asleep_at - used_at, sleep.gone_at - sleep.asleep_at

    def others(self, *, answered: bool = True) -> None:
        """Make every other call, on the session that is awake; simulated pods have nobody who answers chats."""
        one = f"/session/{self.uuid}"
        listed = fields(self.curl.get(f"/sessions?user_id={self.user}"), 200, {"sessions", "cursor"})
        expect([row["uuid"] for row in listed["sessions"]], [self.uuid], "the user's sessions")
        fields(self.curl.get(f"{one}/why"), 200, WHY)
        access = fields(self.curl.quiet().post(f"{one}/access"), 200, ACCESS)
        expect(access["url"].partition("_session/")[0], listed["sessions"][0]["session"]["url"], "the editor's address")
        chats = [fields(self.curl.post(f"{one}/chat", {"message": "hello"}), 202, QUEUED_CHAT)]
        if answered:
            # The second is answered after the first.
            chats.append(fields(self.curl.post(f"{one}/chat?wait=20", {"message": "hello again"}), 200, CHAT_REPLY))
            expect((chats[1]["status"], chats[1]["reply"]), ("done", "hello again"), "status and reply")
        messages = fields(self.curl.get(f"{one}/messages"), 200, CONVERSATION)["messages"]
        expect([each["message_id"] for each in messages], [each["message_id"] for each in chats], "the conversation")
        history = self.curl.get(f"{one}/events", "--no-buffer", "--max-time", "1")
        told = {line.removeprefix("event: ") for line in history.text.splitlines() if line.startswith("event: ")}
        expect({"created", "woken", "slept"} - told, set(), "what the events do not tell of")
        for path in ("/healthz", "/readyz", "/readyz?verbose"):
            expect(self.curl.get(path).status, 200, "the status of the answer")
        for path in ("/metrics", "/openapi.json", "/docs"):
            expect(self.curl.quiet().get(path).status, 200, f"the status of {path}")
        answer = fields(self.curl.post(f"{one}/sleep?force=true"), 200, ACTION)
        expect(answer["action"], "sleep", "the action")
        expect(fields(self.curl.delete(one), 202, ACTION)["action"], "delete", "the action")
        self.status_reaches("deleted")
        fields(self.curl.post(f"{one}/restore"), 200, ACTION)
        self.status("sleeping")
        fields(self.curl.delete(f"{one}?purge=true"), 202, ACTION)
        self._until(lambda: self.curl.quiet().get(f"{one}/status").status == _GONE, "nothing is left")

    def status_reaches(self, wanted: str) -> None:
        """Look until the status is this one; a manager that does not answer is asked again."""
        quiet = self.curl.quiet()

        def reached() -> bool:
            answer = quiet.get(f"/session/{self.uuid}/status")
            return answer.status == _OK and answer.json["session"]["status"] == wanted

        self._until(reached, f"its status is {wanted}")

    def _until(self, look: Callable[[], bool], what: str) -> None:
        until(look, what)
        self.say(f"  seen: {what}")


def until(look: Callable[[], bool], what: str) -> None:
    """Wait for something.

    Raises:
        FirstUserError: It does not come.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        if time.monotonic() > deadline:
            raise FirstUserError(f"not seen within {PATIENCE_SECONDS:.0f} s: {what}", "see the logs of the managers")
        time.sleep(_LOOK_SECONDS)


def walk(user: FirstUser) -> list[tuple[str, float, float | None]]:
    """Do the five steps with the default timeouts; return what was measured, each with its bound."""
    say, measured = user.say, list[tuple[str, float, float | None]]()
    say("\n== 1. create a session")
    user.create()
    say("\n== 2. wake it")
    measured.append(("from the wake to the ready pod", user.wake(), None))
    say("\n== 3. look at it")
    user.status("active")

    def wait() -> None:
        say("  $ sleep 130")
        # From the last use on: what was looked at meanwhile is no use.
        time.sleep(130)
        say(f"  $ kubectl -n sessions get pods -l uuid={user.uuid}")
        say(f"    {user.workload.pods()} pods")

    say("\n== 4. leave it alone: no pod is left")
    asleep, ended = user.idle(wait)
    measured += [
        ("from the last use to asleep", asleep, ASLEEP_SECONDS),
        ("from asleep to no pod", ended, POD_GONE_SECONDS),
    ]
    user.status("sleeping")
    say("\n== 5. wake it again")
    measured.append(("from the second wake to the ready pod", user.wake(), None))
    user.status("active")
    say("\n== and all the other calls")
    user.others()
    return measured


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main() -> int:
    """Start a cluster with real pods and two managers, walk, and take it down."""
    with tempfile.TemporaryDirectory(prefix="sessionctl-first-user-") as folder:
        try:
            cluster = LocalCluster.start(
                ClusterSpec(kind="real", managers=2), Path(folder) / "cluster", os.getpid(), say
            )
        except ToolError as error:
            say(f"error: {error}")
            return 1
        try:
            cluster.install_platform()
            say(cluster.kubectl("-n", "sessionctl", "get", "pods,pdb"))
            curl = Curl.with_key(
                cluster.api_url, make_key(cluster, "first-user") or "", Path(folder), lambda line: say(f"  {line}")
            )
            # A Secret reaches its pods a few seconds later.
            until(curl.is_known, "the managers know the key")
            measured = walk(FirstUser(curl, Api.from_kubeconfig(cluster.kubeconfig), say))
        except ToolError as error:
            say(f"error: {error}")
            return 1
        finally:
            cluster.stop()
    say("\n== times")
    late = [seconds for _, seconds, bound in measured if bound is not None and seconds > bound]
    for what, seconds, bound in measured:
        say(f"  {seconds:7.1f} s  {what}" + (f" (at most {bound:.0f} s)" if bound is not None else ""))
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
