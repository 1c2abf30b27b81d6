"""The sockets that servers listen on: their answers must not wait for acknowledgements."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from sessionctl.agent.serve import _listen as agent_listen
from sessionctl.agent.settings import AgentSettings
from sessionctl.api.process import Address
from sessionctl.api.process import _listen as api_listen
from tools.localcluster import ports

LISTENERS = {
    "API, one address": lambda: api_listen(Address("127.0.0.1", 0)),
    "API, all addresses": lambda: api_listen(Address(None, 0)),
    "agent": lambda: agent_listen(AgentSettings(Path(), "", host="127.0.0.1", port=0)),
    "relay of the local cluster": ports.listen,
}


@pytest.mark.parametrize("listen", LISTENERS.values(), ids=LISTENERS)
def test_what_is_accepted_sends_at_once(listen: Callable[[], socket.socket]) -> None:
    with listen() as listener, socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
