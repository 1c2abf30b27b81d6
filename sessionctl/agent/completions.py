"""The stream of a chat completion: server-sent events with a JSON object each, and ``[DONE]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.agent.files import parse_line
from sessionctl.agent.kinds import FailedReplyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from sessionctl.models import JsonObject, JsonValue

COMPLETIONS: Final = "/chat/completions"
MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_SAID_CHARACTERS: Final = 300
_DONE: Final = b"[DONE]"
_NO_COMPLETION: Final = "the model's endpoint answered with something else than a chat completion"


async def events_of(stream: AsyncIterator[bytes], completion: Completion) -> AsyncGenerator[JsonObject, None]:
    """Yield the objects of a stream up to its end; raises FailedReplyError for what is no such stream."""
    buffer = b""
    async for data in stream:
        *lines, buffer = (buffer + data).split(b"\n")
        if len(buffer) > MAX_EVENT_BYTES:
            raise FailedReplyError(_NO_COMPLETION)
        for line in lines:
            text = _data_of(line)
            if text == _DONE:
                completion.finished = True
                return
            if text is None:
                continue
            if (event := parse_line(text)) is None:
                raise FailedReplyError(_NO_COMPLETION)
            yield event
    # The last line may lack its end; what is half of one says nothing.
    if (text := _data_of(buffer)) == _DONE:
        completion.finished = True
    elif text is not None and (event := parse_line(text)) is not None:
        yield event


def _data_of(line: bytes) -> bytes | None:
    """Return what a line tells; None for one that tells nothing."""
    name, _, text = line.partition(b":")
    return text.strip() if name == b"data" else None


class Completion:
    """What has been read of one completion."""

    def __init__(self) -> None:
        self.finished = False

    def error_in(self, event: JsonObject) -> bytes | None:
        """Return what an endpoint says that fails in the middle."""
        error = event.get("error")
        return None if error is None else _message_of(error).encode(errors="replace")

    def piece_of(self, event: JsonObject) -> str:
        """Return the next piece of the reply, which may be empty."""
        match event.get("choices"):
            case [dict(choice), *_]:
                self.finished = self.finished or choice.get("finish_reason") is not None
                delta = choice.get("delta")
                content = delta.get("content") if isinstance(delta, dict) else None
                # Half of a surrogate pair is no text.
                return content.encode(errors="replace").decode() if isinstance(content, str) else ""
            case _:
                return ""


def said_by(body: bytes, key: str | None) -> str:
    """Return what an endpoint says about its failure, to be put behind a sentence: short, and without the key."""
    found = parse_line(body)
    text = body.decode(errors="replace") if found is None else _message_of(found.get("error", found))
    if key:
        text = text.replace(key, "***")
    text = " ".join("".join(each if each.isprintable() else " " for each in text).split())
    return f": {text[:MAX_SAID_CHARACTERS]}" if text else ""


def _message_of(error: JsonValue) -> str:
    match error:
        case {"message": str(text)} | {"detail": str(text)} | str(text):
            return text
        case _:
            return ""
