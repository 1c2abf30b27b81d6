"""A DNS server that knows the names it is given, for routers outside a cluster."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, cast

_TTL: Final = 5
_A: Final = 1
_NO_SUCH_NAME: Final = 3
_RESPONSE: Final = 0x8180
_NAME_ABOVE: Final = 0xC00C


class Dns(asyncio.DatagramProtocol):
    """Answers for the names it was given; any other has the address ``fallback``, or is none."""

    def __init__(self, fallback: str | None = None) -> None:
        self.addresses: dict[str, str] = {}
        self._fallback = fallback
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note how to answer."""
        # What Python 3.11 makes is one in all but name.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def close(self) -> None:
        """Answer nobody any more."""
        if self._transport is not None:
            self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        labels, at = [], 12
        while size := data[at]:
            labels.append(data[at + 1 : at + 1 + size].decode())
            at += size + 1
        question = data[12 : at + 5]
        (kind,) = struct.unpack("!H", question[-4:-2])
        address = self.addresses.get(".".join(labels).lower(), self._fallback)
        answers = b""
        if address is not None and kind == _A:
            answers = struct.pack("!HHHIH", _NAME_ABOVE, _A, 1, _TTL, 4) + socket.inet_aton(address)
        code = _RESPONSE | (0 if address is not None else _NO_SUCH_NAME)
        header = data[:2] + struct.pack("!HHHHH", code, 1, int(bool(answers)), 0, 0)
        if self._transport is not None:
            self._transport.sendto(header + question + answers, addr)
