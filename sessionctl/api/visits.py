"""What the router tells of a request to an editor's host, in headers that no client can set (DESIGN 8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from sessionctl.core.identity import parse_session_id
from sessionctl.core.logins import STATE
from sessionctl.core.navigation import Approach
from sessionctl.errors import InvalidRequestError, NotFoundError

if TYPE_CHECKING:
    from starlette.requests import Request

    from sessionctl.models import SessionId


@dataclass(frozen=True)
class Visit:
    """A request to the host of one session."""

    session_id: SessionId
    approach: Approach
    uri: str
    cookie: str = field(repr=False)
    state: str = field(repr=False)
    """Of the browser; empty where it has none."""


def read_visit(request: Request) -> Visit:
    """Read the headers; raises NotFoundError for what is no session's host."""
    said = request.headers
    try:
        session_id = parse_session_id(said.get("x-session-id", ""))
    except InvalidRequestError:
        raise NotFoundError("this is no session's host") from None
    state = said.get("x-session-state", "")
    return Visit(
        session_id=session_id,
        approach=read_approach(request),
        uri=said.get("x-session-uri", ""),
        cookie=said.get("x-session-cookie", ""),
        state=state if STATE.fullmatch(state) else "",
    )


def read_approach(request: Request) -> Approach:
    """Read how the browser came."""
    said = request.headers
    return Approach(
        method=said.get("x-session-method") or request.method,
        mode=said.get("sec-fetch-mode", ""),
        dest=said.get("sec-fetch-dest", ""),
        site=said.get("sec-fetch-site", ""),
        purposes=tuple(said.get(name, "") for name in ("sec-purpose", "purpose")),
        accept=said.get("accept", ""),
    )


def parameter(request: Request, visit: Visit, name: str) -> str:
    """Return a parameter of the address that the browser asked for; empty without it."""
    if (found := request.query_params.get(name)) is not None:
        return found
    return parse_qs(urlsplit(visit.uri).query).get(name, [""])[0]
