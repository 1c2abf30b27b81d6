"""Server-sent events (the HTML standard, section 9.2) from bytes that come in any pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sessionctl.errors import ApiError

MOST_BYTES: Final = 4 << 20
"""Of one event: more is not held for a server that never ends a line. JSON makes six bytes of some that are one."""
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Frame:
    """One event as it was sent; ``id`` is the last one seen, which an event without its own keeps."""

    id: str
    event: str
    data: str


class FrameDecoder:
    """Collects the events of one connection; what is not ended by an empty line is not an event."""

    def __init__(self) -> None:
        self._buffer = b""
        self._begun = False
        self._after_return = False
        self._id = ""
        self._event = ""
        self._data: list[str] = []
        self._size = 0
        self.retry_seconds: float | None = None
        """How long the server asks to wait before a connection is made again."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take the next bytes and return the events that are complete; raises ApiError for one without end."""
        if self._after_return:
            # The other half of a line's end; the first one was enough.
            chunk = chunk.removeprefix(b"\n") if chunk else chunk
        self._after_return = chunk.endswith(b"\r") or (self._after_return and not chunk)
        self._buffer += chunk
        frames = []
        at = 0
        for end in _LINE_END.finditer(self._buffer):
            frame = self._take(self._buffer[at : end.start()])
            at = end.end()
            if frame is not None:
                frames.append(frame)
        self._buffer = self._buffer[at:]
        if len(self._buffer) + self._size > MOST_BYTES:
            msg = f"the event stream holds an event of more than {MOST_BYTES >> 20} MiB"
            raise ApiError(msg, hint="See whether the URL is that of the Session API.")
        return frames

    def _take(self, line: bytes) -> Frame | None:
        if not self._begun:
            line, self._begun = line.removeprefix(_BYTE_ORDER_MARK), True
        if not line:
            return self._complete()
        self._size += len(line)
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id" if "\0" not in value:
                self._id = value
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "retry" if value.isascii() and value.isdigit():
                self.retry_seconds = int(value) / 1000
            case _:
                pass  # a comment, which says that the server is there, or a field of a later standard
        return None

    def _complete(self) -> Frame | None:
        event, data = self._event or "message", self._data
        self._event, self._data, self._size = "", [], 0
        return Frame(self._id, event, "\n".join(data)) if data else None
