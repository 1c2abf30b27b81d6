"""A Python that has loaded the product, and becomes the processes that tests ask for: `python -m tests.support.zygote`.

It forks. What comes of it is a process like any other, with a pid, a session, an environment and streams of its own,
but without the half second that loading takes. It listens on its standard input and ends with whoever holds the other
end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

CONTROL: Final = 0
LARGEST_ORDER: Final = 1 << 20
STREAMS: Final = 3


class _Zygote:
    """Forks on demand, and tells how each child ended."""

    def __init__(self) -> None:
        self._control = socket.socket(fileno=os.dup(CONTROL))
        with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a file
            os.dup2(nothing.fileno(), CONTROL)
        self._ready = selectors.DefaultSelector()
        self._ready.register(self._control, selectors.EVENT_READ)

    def become(self) -> dict[str, Any]:
        """Return what to be; in children only."""
        while True:
            for key, _ in self._ready.select():
                if key.fileobj is not self._control:
                    self._bury(key)
                elif (order := self._take_order()) is not None:
                    return order

    def _take_order(self) -> dict[str, Any] | None:
        data, descriptors, _, _ = socket.recv_fds(self._control, LARGEST_ORDER, STREAMS + 1)
        if not data:
            # Nobody asks any more; those who were asked for live on, as they would without us.
            os._exit(0)
        asker = socket.socket(fileno=descriptors[STREAMS])
        order: dict[str, Any] = json.loads(data)
        pid = os.fork()
        if pid == 0:
            self._cut_loose()
            _move_in(order, descriptors[:STREAMS], asker)
            return order
        for each in descriptors[:STREAMS]:
            os.close(each)
        self._ready.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, asker))
        return None

    def _bury(self, key: selectors.SelectorKey) -> None:
        pid, asker = key.data
        _, status = os.waitpid(pid, 0)
        self._ready.unregister(key.fileobj)
        assert isinstance(key.fileobj, int)
        os.close(key.fileobj)
        with asker, suppress(OSError):
            asker.send(str(os.waitstatus_to_exitcode(status)).encode())

    def _cut_loose(self) -> None:
        """Close what a child does not need."""
        for key in list(self._ready.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
                key.data[1].close()
        self._ready.close()
        self._control.close()


def _move_in(order: dict[str, Any], streams: list[int], asker: socket.socket) -> None:
    """Give this process what a new one would have been given."""
    if order["new_session"]:
        os.setsid()
    # Whoever asked may kill the group of this pid from now on.
    asker.send(str(os.getpid()).encode())
    asker.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = order["argv"]
    # Made anew, because they look at what they are connected to; as Python makes them.
    streams_of = functools.partial(open, encoding=sys.stdout.encoding, newline="\n", closefd=False)
    sys.stdin = sys.__stdin__ = streams_of(0, "r", errors=sys.stdin.errors)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = streams_of(1, "w", errors=sys.stdout.errors)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = streams_of(2, "w", errors="backslashreplace")  # type: ignore[misc]
    sys.stderr.reconfigure(line_buffering=True)


def _load(package: str) -> None:
    """Import a package and everything in it."""
    module = importlib.import_module(package)
    for each in pkgutil.walk_packages(getattr(module, "__path__", []), f"{package}."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)


def _run(entry: str) -> None:
    module, _, function = entry.partition(":")
    # What usage messages show is taken from it.
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        if function:
            main: Callable[[], Any] = getattr(importlib.import_module(module), function)
            sys.exit(main())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            _leave(end.code or 0)
        raise


def _leave(code: int) -> None:
    """End as Python does, but for taking apart, object by object, what was loaded; return if that is not possible."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except OSError:
            return
    os._exit(code & 0xFF)


if __name__ == "__main__":
    # What somebody further up left open is nothing to what comes of this.
    os.closerange(STREAMS, os.sysconf("SC_OPEN_MAX"))
    # As the product does before it loads anything.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for name in sys.argv[1:]:
        _load(name)
    # Nothing that is loaded becomes garbage, and a search for it would write to all its pages.
    gc.collect()
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    MAIN = sys.modules["__main__"]
    _run(_Zygote().become()["entry"])
