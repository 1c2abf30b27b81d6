"""The pages that people see who open an editor: no external resource, and nothing that a page may not do is allowed."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi import Response
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sessionctl.core.opening import Phase, Step

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_SECONDS: Final = 3
HOME: Final = "/"

_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]{0,4000}")
"""Of this host: no browser reads another host out of it."""
_OURS: Final = "/_session/"
_HEADINGS: Final[Mapping[Phase, str]] = {
    Phase.STARTING: "Your workspace is starting",
    Phase.EDITOR: "Your workspace is starting",
    Phase.READY: "Your workspace is ready",
    Phase.ASLEEP: "Your workspace is asleep",
    Phase.FAILED: "Your workspace does not start",
    Phase.GONE: "This workspace is not there any more",
}
_TEXTS: Final[Mapping[Phase, str]] = {
    Phase.STARTING: "its pod is about to be made",
    Phase.EDITOR: "it is awake, and its editor is starting",
    Phase.READY: "its editor opens",
    Phase.ASLEEP: "it went to sleep because nobody used it",
    Phase.FAILED: "no reason is known",
    Phase.GONE: "it was deleted; whoever runs it can say more",
}
_BUSY: Final = frozenset({Phase.STARTING, Phase.EDITOR, Phase.READY})


def local_path(text: str) -> str:
    """Return the path if it is one of the editor's on this host, or the way home."""
    return text if _PATH.fullmatch(text) and not text.startswith(_OURS) else HOME


def words(step: Step) -> dict[str, str | bool]:
    """Return what a page says of a step, as it is first shown and as it changes."""
    phase = step.phase
    reason = _TEXTS[phase] if phase is Phase.EDITOR else step.reason or _TEXTS[phase]
    return {
        "heading": _HEADINGS[phase],
        "text": f"{reason[:1].upper()}{reason[1:].rstrip('.')}.",
        "busy": phase in _BUSY,
        "action": "Start it" if phase is Phase.ASLEEP else "Try again",
    }


def waiting(step: Step, to: str) -> Response:
    """Return the page that is shown until an editor answers, and then goes to the path ``to``."""
    status = HTTPStatus.GONE if step.phase is Phase.GONE else HTTPStatus.SERVICE_UNAVAILABLE
    wait = f"/_session/wait?to={quote(to, safe='')}"
    response = _page("waiting.html.j2", status, **words(step), to=to, wait=wait, script=_asset("waiting.js"))
    response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def confirmation(user_id: str, code: str) -> Response:
    """Return the page that asks whether somebody meant to log in."""
    return _page("confirm.html.j2", HTTPStatus.OK, heading="Open this workspace?", user_id=user_id, code=code)


def message(status: HTTPStatus, heading: str, text: str) -> Response:
    """Return a page that says one thing."""
    return _page("page.html.j2", status, heading=heading, text=text)


def _page(template: str, status: HTTPStatus, **values: object) -> Response:
    body = _templates().get_template(template).render(values, style=_asset("page.css"))
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": _policy()} | _HEADERS
    return Response(body, status, headers, media_type="text/html")


_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not `no-referrer`: a form of such a page is sent with the origin `null`, and refused.
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@cache
def _policy() -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_digest(_asset('waiting.js'))}",
            f"style-src {_digest(_asset('page.css'))}",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _asset(name: str) -> Markup:
    """Return a file of the package that goes into pages as it is."""
    return Markup(files("sessionctl.api").joinpath("templates", name).read_text())  # noqa: S704 - no input


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("sessionctl.api"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
