"""Stands in for code-server: answers /healthz, says everything else back, and does what a test wants of it.

`stub_code_server.py STAGE ARGUMENT...`, where the arguments are those of code-server and STAGE is a folder: without
`go` in it, it does not listen yet; with `deaf` it ignores SIGTERM; with `broken` it ends at once; with `end` it ends
when it is asked for anything. It leaves `argv`, `environment` and a process of its own, `child`, there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path


def serve(connection: socket.socket, stage: Path) -> None:
    with connection:
        data = connection.recv(65536)
        if (stage / "end").exists():
            (stage / "end").unlink()
            os._exit(7)
        if data.startswith(b"GET /healthz"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        while data:
            connection.sendall(data)
            data = connection.recv(65536)
        connection.sendall(b"bye")


def serve_until_lost(connection: socket.socket, stage: Path) -> None:
    with suppress(ConnectionError):
        serve(connection, stage)


def main(folder: str, *arguments: str) -> None:
    stage = Path(folder)
    if (stage / "broken").exists():
        sys.exit(3)
    if (stage / "deaf").exists():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "infinity"])
    (stage / "child").write_text(str(child.pid))
    (stage / "argv").write_text(json.dumps(arguments))
    (stage / "environment").write_text(json.dumps(dict(os.environ)))
    while not (stage / "go").exists():
        time.sleep(0.01)
    path = next(each.partition("=")[2] for each in arguments if each.startswith("--socket="))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen()
        while True:
            threading.Thread(target=serve_until_lost, args=(listener.accept()[0], stage), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
