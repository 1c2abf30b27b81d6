"""Calls and streams over HTTP: repeated while that can help, and every failure is one of the error tree."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from sessionctl import __version__
from sessionctl.client.problems import error_of, problem_of, retry_after
from sessionctl.client.retries import LONGEST_PAUSE_SECONDS, Patience, RepeatableError, Retries
from sessionctl.client.sse import Frame, FrameDecoder
from sessionctl.errors import ApiError, DeadlineExceededError, InProgressError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from pydantic import JsonValue

WRONG_URL: Final = "See whether the URL is that of the Session API, and what stands before it."
_TRY_LATER: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_OF_A_GATEWAY: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
"""Not from the API itself unless they carry a problem: a load balancer had no manager to ask."""


@dataclass(frozen=True)
class Opening:
    """The request that opens a stream."""

    path: str
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, JsonValue] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class Transport:
    """One Session API, reached with one key. Every call made here may be repeated (see ``SessionClient``)."""

    def __init__(
        self,
        url: str,
        api_key: str,
        patience: Patience,
        report: Callable[[str], None],
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        base = _parse(url)
        self.address = str(base.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/")
        """For messages: without credentials."""
        self._patience = patience
        self._report = report
        self._client = httpx.AsyncClient(
            base_url=base,
            headers={"X-API-Key": _header(api_key), "User-Agent": f"sessionctl/{__version__}"},
            timeout=httpx.Timeout(patience.read.total_seconds(), connect=patience.connect.total_seconds()),
            # A key goes to the address it was given for, and nowhere else.
            follow_redirects=False,
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Mapping[str, JsonValue] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Make one call, again where that can help, and return the answer's JSON.

        Raises what the server says, ApiError, or DeadlineExceededError.
        """
        request = self._client.build_request(method, path, params=params, json=body, headers=headers)
        retries = Retries(self._patience, self._report)
        seconds = self._patience.total.total_seconds()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await self._attempt(request)
                    except RepeatableError as failure:
                        await retries.wait(failure)
        except TimeoutError:
            msg = f"{self.address} did not answer within {seconds:g} s"
            raise DeadlineExceededError(msg, hint="What was asked for may still happen; ask again.") from None

    async def _attempt(self, request: httpx.Request) -> bytes:
        try:
            response = await self._client.send(request)
        except httpx.TransportError as error:
            raise self._failure(error) from error
        self._check(response, "application/json")
        return response.content

    async def stream(
        self, opening: Callable[[], Opening], *, last_id: str | None, endless: bool
    ) -> AsyncGenerator[Frame, None]:
        """Yield the events of a stream, going on after the last one wherever the connection ends.

        ``opening`` is asked each time; ``endless`` says that a stream that ends is opened again. A server that cannot
        be asked for as long as patience lasts ends it with ApiError or with what the server said.
        """
        retries = Retries(self._patience, self._report)
        last = last_id
        while True:
            decoder = FrameDecoder()
            try:
                async with self._open(opening(), last) as response:
                    opened = time.monotonic()
                    # Not aiter_lines, which also ends lines where JSON may hold a raw U+2028.
                    async for chunk in response.aiter_bytes():
                        if time.monotonic() - opened > LONGEST_PAUSE_SECONDS:
                            retries.reset()
                        for frame in decoder.feed(chunk):
                            if last is not None and not _is_after(frame.id, last):
                                continue
                            last = frame.id or last
                            retries.reset()
                            yield frame
            except httpx.TransportError as error:
                await retries.wait(self._failure(error))
                continue
            except RepeatableError as failure:
                await retries.wait(failure)
                continue
            if not endless:
                return
            await retries.breathe(decoder.retry_seconds)

    @asynccontextmanager
    async def _open(self, opening: Opening, last: str | None) -> AsyncIterator[httpx.Response]:
        headers = {**opening.headers, "Accept": "text/event-stream", "Cache-Control": "no-store"}
        headers |= {"Last-Event-ID": last} if last is not None else {}
        patience = self._patience
        timeout = httpx.Timeout(patience.silence.total_seconds(), connect=patience.connect.total_seconds())
        async with self._client.stream(
            opening.method, opening.path, params=opening.params, json=opening.body, headers=headers, timeout=timeout
        ) as response:
            if not response.is_success:
                await response.aread()
            self._check(response, "text/event-stream")
            yield response

    def _check(self, response: httpx.Response, wanted: str) -> None:
        if response.is_success:
            found = response.headers.get("content-type", "")
            if found.startswith(wanted) or response.status_code == HTTPStatus.NO_CONTENT:
                return
            msg = f"{self.address} answered, but not as the Session API does"
            raise ApiError(msg, hint=WRONG_URL)
        if response.is_redirect:
            msg = f"{self.address} answered with a redirect, which is not followed"
            raise ApiError(msg, hint="Give the URL that it leads to, if that is the Session API.")
        error = error_of(response, self.address)
        gateway = response.status_code in _OF_A_GATEWAY and problem_of(response) is None
        if response.status_code in _TRY_LATER or isinstance(error, InProgressError) or gateway:
            raise RepeatableError(error, retry_after(response))
        raise error

    def _failure(self, error: httpx.TransportError) -> RepeatableError:
        """Return what may be repeated; raises what stays as it is however often it is tried."""
        reason = _reason(error)
        msg = f"{self.address} does not answer: {reason}"
        failure = ApiError(msg, hint="See whether the URL is right and the session manager runs.")
        if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
            raise failure from error
        if (refusal := _tls_refusal(error)) is not None:
            msg = f"{self.address} has no certificate that can be trusted: {refusal}"
            raise ApiError(msg, hint="Name your authority with SSL_CERT_FILE.") from error
        return RepeatableError(failure)


def _parse(url: str) -> httpx.URL:
    # Not quoted: it may hold a password.
    hint = "Write for example https://sessions.example.com"
    try:
        parsed = httpx.URL(url.strip().rstrip("/"))
    except httpx.InvalidURL:
        raise InvalidRequestError("the URL of the Session API cannot be read", hint=hint) from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise InvalidRequestError("the URL of the Session API has no scheme http or https, or no host", hint=hint)
    return parsed


def _header(api_key: str) -> str:
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidRequestError(
            "the API key is empty or holds characters that no key has", hint="Give it as apikey create printed it."
        )
    return key


def _is_after(event_id: str, last: str) -> bool:
    """Whether an event comes after another one; ids are milliseconds, a hyphen and a number."""
    try:
        return _position(event_id) > _position(last)
    except ValueError:
        return event_id != last


def _position(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


def _reason(error: httpx.TransportError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no connection in time"
        case httpx.TimeoutException():
            return "no answer in time"
        case _:
            return str(error)[:200] or type(error).__name__


def _tls_refusal(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return None
