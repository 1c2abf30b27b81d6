"""What a forked process finds itself to be, told as JSON; for `unit/test_spawn.py`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path


def tell() -> int:
    """Print it, and end with the code in the last argument, or wait for a signal if that is "wait"."""
    told = {
        "argv": sys.argv,
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "pid": os.getpid(),
        "session": os.getsid(0),
        "open": sorted(int(each.name) for each in Path("/proc/self/fd").iterdir()),
        "read": sys.stdin.read(),
        "terminal": sys.stdout.isatty(),
        "main": vars(sys.modules["__main__"]).get("__package__"),
    }
    print(json.dumps(told), flush=True)
    print("ends", file=sys.stderr)
    if sys.argv[-1] == "wait":
        signal.pause()
    return int(sys.argv[-1])
