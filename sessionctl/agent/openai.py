"""Kind ``openai``: any endpoint that speaks the streaming chat completions of the OpenAI API."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from sessionctl.agent.completions import COMPLETIONS, Completion, events_of, said_by
from sessionctl.agent.kinds import FailedReplyError
from sessionctl.agent.settings import read_key
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from ssl import SSLContext

    import httpx

    from sessionctl.agent.conversation import Conversation
    from sessionctl.agent.records import Start
    from sessionctl.agent.settings import OpenAISettings
    from sessionctl.models import JsonValue

CONNECT_SECONDS: Final = 10.0
MAX_ERROR_BYTES: Final = 16 * 1024
OK: Final = 200


class OpenAI:
    """Tells the model the conversation so far, and yields what it answers.

    What users read of a failure holds neither key nor address. Redirects are not followed: the key is for one place.
    """

    repeatable = True

    def __init__(self, settings: OpenAISettings, conversation: Conversation) -> None:
        self._settings = settings
        self._conversation = conversation
        self._tls: SSLContext | None = None

    def warm_up(self) -> None:
        """Load the HTTP client and the certificates."""
        self._trust()

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Yield the answer; raises FailedReplyError."""
        key = self._key()
        messages = await asyncio.to_thread(self._messages, asked)
        completion = Completion()
        async with self._posted(messages, key) as response:
            if response.status_code != OK:
                raise FailedReplyError(await _refusal(response, key))
            async for event in events_of(response.aiter_bytes(), completion):
                if (error := completion.error_in(event)) is not None:
                    raise FailedReplyError(f"the model's endpoint failed{said_by(error, key)}")
                if piece := completion.piece_of(event):
                    yield piece
        if not completion.finished:
            raise FailedReplyError("the model's endpoint broke its answer off")

    @asynccontextmanager
    async def _posted(self, messages: list[JsonValue], key: str | None) -> AsyncGenerator[httpx.Response, None]:
        import httpx

        settings, silence = self._settings, self._settings.timeout.total_seconds()
        body = {"model": settings.model, "messages": messages, "stream": True}
        headers = {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {key}"} if key else {})
        try:
            trust = await asyncio.to_thread(self._trust)
        except OSError as error:
            raise FailedReplyError("the certificates that are trusted cannot be read") from error
        try:
            # A client for each message: a connection that was kept may be dead by the next one.
            async with (
                httpx.AsyncClient(timeout=httpx.Timeout(silence, connect=CONNECT_SECONDS), verify=trust) as client,
                client.stream("POST", settings.base_url + COMPLETIONS, json=body, headers=headers) as response,
            ):
                yield response
        except httpx.ConnectTimeout as error:
            raise FailedReplyError(f"the model's endpoint could not be reached in {CONNECT_SECONDS:g} s") from error
        except httpx.TimeoutException as error:
            raise FailedReplyError(f"the model's endpoint was silent for {silence:g} s") from error
        except httpx.ConnectError as error:
            raise FailedReplyError("the model's endpoint could not be reached") from error
        except httpx.HTTPError as error:
            raise FailedReplyError(f"the model's endpoint broke its answer off ({type(error).__name__})") from error

    def _trust(self) -> SSLContext:
        import httpx

        if self._tls is None:
            self._tls = httpx.create_ssl_context()
        return self._tls

    def _key(self) -> str | None:
        # Read each time: a mounted Secret changes without a restart.
        if self._settings.key_file is None:
            return None
        try:
            return read_key(self._settings.key_file)
        except ConfigurationError as error:
            raise FailedReplyError(
                "the key of the model's endpoint cannot be read; an operator has to see to it"
            ) from error

    def _messages(self, asked: Start) -> list[JsonValue]:
        messages: list[JsonValue] = []
        if self._settings.system_prompt:
            messages.append({"role": "system", "content": self._settings.system_prompt})
        for turn in self._conversation.read_context(self._settings.context_characters):
            messages.append({"role": "user", "content": turn.message})
            messages.append({"role": "assistant", "content": turn.reply})
        messages.append({"role": "user", "content": asked.message})
        return messages


async def _refusal(response: httpx.Response, key: str | None) -> str:
    body = b""
    async for data in response.aiter_bytes():
        body += data
        if len(body) > MAX_ERROR_BYTES:
            break
    return f"the model's endpoint answered {response.status_code}{said_by(body[:MAX_ERROR_BYTES], key)}"
